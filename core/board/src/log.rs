//! The log: defmt frames into a file of the host.
