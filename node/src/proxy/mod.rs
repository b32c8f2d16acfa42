//! One client, one backend, bytes between.
