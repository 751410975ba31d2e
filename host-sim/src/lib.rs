//! Emulated RouterOS and links, parity checks and the demo for wanctl.

pub mod routeros;
