//! Who holds the virtual addresses.
