//! The files a daemon needs to talk to an emulated router: configuration, CA, password.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::episode::LineProfile;
use crate::routeros::Emulator;

/// The emulated router's user and its password.
pub const USER: &str = "wanctl";
/// The password of [`USER`].
pub const PASSWORD: &str = "wanctl";
/// The queue tree entries of the emulated router, download and upload.
pub const QUEUES: (&str, &str) = ("WAN-Download", "WAN-Upload");

/// A temporary folder with everything `wanctl run --config` reads.
#[derive(Debug)]
pub struct DaemonFiles {
    folder: TempDir,
}

impl DaemonFiles {
    /// Writes the files.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn write(config: &str, ca_pem: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("temporary folder")?;
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).with_context(|| format!("write {name}"))
        };
        write("wanctl.toml", config)?;
        write("router-ca.pem", ca_pem)?;
        write("password", PASSWORD)?;
        Ok(Self { folder })
    }

    /// Returns the path of the configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path().join("wanctl.toml")
    }

    /// Returns the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Returns a configuration for one WAN behind the emulated router.
#[must_use]
pub fn config_text(emulator: &Emulator, line: &LineProfile, reflectors: &[&str]) -> String {
    let url = emulator.https_url();
    let reflectors = reflectors.iter().map(|r| format!("\"{r}\"")).collect::<Vec<_>>().join(", ");
    let (download, upload) = QUEUES;
    let (ceiling, floor) = (line.ceiling_bps, line.floor_bps);
    let kbit = |bps: u64| format!("\"{}k\"", bps / 1000);
    format!(
        r#"interval = "50ms"
on-exit = "keep"
status-interval = "1s"
run-dir = "run"

[router]
url = "{url}"
user = "{USER}"
password-file = "password"
ca-file = "router-ca.pem"

[[wan]]
name = "cable"
reflectors = [{reflectors}]

[wan.download]
queue = "{download}"
ceiling = {}
floor = {}

[wan.upload]
queue = "{upload}"
ceiling = {}
floor = {}
"#,
        kbit(ceiling.download),
        kbit(floor.download),
        kbit(ceiling.upload),
        kbit(floor.upload),
    )
}
