//! One client, one backend, bytes between.

mod balance;
mod health;
mod route;
mod screen;
