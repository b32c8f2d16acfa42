//! Real clusters, real sockets, real faults.
