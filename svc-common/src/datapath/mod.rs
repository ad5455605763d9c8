//! The decisions of the datapath.
