//! Emulated RouterOS and links, parity checks and the demo for wanctl.

pub mod accuracy;
pub mod daemon_process;
pub mod demo;
pub mod hostile;
pub mod link;
pub mod measure;
pub mod netns;
pub mod parity;
pub mod replay;
pub mod routeros;
pub mod score;
pub mod soak;
pub mod step;
pub mod synthetic;
