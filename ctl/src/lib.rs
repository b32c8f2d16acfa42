//! tandemctl: the operator's tool. Knows the messages, not the node.
