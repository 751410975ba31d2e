//! The folder of a running daemon: a lock against a second one, and the socket of `wanctl status`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::exit::{ExitReason, Failure};

/// The folder where neither configuration nor systemd names one.
pub const DEFAULT_FOLDER: &str = "/run/wanctl";
/// The socket's name in the folder.
pub const SOCKET: &str = "wanctl.sock";
const LOCK: &str = "wanctl.lock";

/// Returns the folder to use: the configured one, that of the systemd unit (`RuntimeDirectory=`), or
/// [`DEFAULT_FOLDER`].
#[must_use]
pub fn folder(configured: Option<&Path>) -> PathBuf {
    if let Some(configured) = configured {
        return configured.to_path_buf();
    }
    let from_systemd = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
    match from_systemd.split(':').next() {
        Some(first) if !first.is_empty() => PathBuf::from(first),
        _ => PathBuf::from(DEFAULT_FOLDER),
    }
}

/// The only daemon of its folder. The system releases the lock when the process ends, however that
/// happens; the socket is removed on drop.
#[derive(Debug)]
pub struct Instance {
    _lock: File,
    socket: PathBuf,
}

impl Instance {
    /// Takes the folder, which is made if it is missing, and listens on its socket.
    ///
    /// # Errors
    ///
    /// [`ExitReason::AlreadyRunning`] if another daemon has it, or [`ExitReason::Storage`].
    pub fn start(folder: &Path) -> Result<(Self, UnixListener), Failure> {
        let fail = |what: &Path, error: io::Error| {
            Failure::new(ExitReason::Storage, format!("run-dir: {}: {error}", what.display()))
        };
        fs::create_dir_all(folder).map_err(|error| fail(folder, error))?;
        let path = folder.join(LOCK);
        let options = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = options.map_err(|error| fail(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let folder = folder.display();
                let message = format!(
                    "another wanctl is running: it holds {}\n  hint: `wanctl status` shows it; a \
                     second one for other lines needs its own `run-dir` (this is {folder})",
                    path.display()
                );
                return Err(Failure::new(ExitReason::AlreadyRunning, message));
            }
            Err(TryLockError::Error(error)) => return Err(fail(&path, error)),
        }
        let socket = folder.join(SOCKET);
        // Left behind by a daemon that was killed: whoever holds the lock owns the socket.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fail(&socket, error));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&socket).map_err(|error| fail(&socket, error))?;
        Ok((Self { _lock: lock, socket }, listener))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Nobody answers there any more.
        let _ = fs::remove_file(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_daemon_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("run");
        let (first, _listener) = Instance::start(&folder).unwrap();
        let refused = Instance::start(&folder).unwrap_err();
        assert_eq!(refused.reason, ExitReason::AlreadyRunning);
        assert!(folder.join(SOCKET).exists(), "the socket of the first is left alone");
        drop(first);
        assert!(!folder.join(SOCKET).exists());
        assert!(Instance::start(&folder).is_ok());
    }

    #[test]
    fn a_socket_left_behind_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(folder.path().join(SOCKET)).unwrap());
        assert!(Instance::start(folder.path()).is_ok());
    }
}
