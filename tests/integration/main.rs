//! One promise to a user per file, kept or broken on real processes and real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod backend_added_live;
mod backend_fails_clients;
mod bad_input;
mod bad_requests;
mod damaged_store;
mod disk_full;
mod drain;
mod failover;
mod floors;
mod forms_and_restarts;
mod keys_stay_sealed;
mod limits_hold;
mod local_socket;
mod move_vip;
mod names_resolve;
mod no_acknowledged_change_lost;
mod open_files_run_out;
mod restore_on_a_fresh_cluster;
mod rollback_restores_exactly;
mod thousand_backends;
mod tls_resumes_elsewhere;
mod transaction_all_or_nothing;
mod watch_misses_nothing;
mod watched;
mod wrong_data_dir;
