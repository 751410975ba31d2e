//! Emulated RouterOS and links, parity checks and the demo for wanctl.

pub mod daemon_process;
pub mod demo;
pub mod link;
pub mod measure;
pub mod netns;
pub mod parity;
pub mod replay;
pub mod routeros;
pub mod score;
pub mod step;
pub mod synthetic;
