//! Network namespaces that clean up after themselves.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::thread::LinkNameSpaceType;

use super::tun::Tun;

/// Where `ip netns` keeps a file per namespace.
const DIRECTORY: &str = "/run/netns";

/// A network namespace with `lo` up and IPv6 off; it is deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace named `prefix-PID-COUNTER`, and deletes those with the same prefix that
    /// processes which are gone have left behind.
    ///
    /// # Errors
    ///
    /// If `ip` is missing or fails, which it does without root.
    pub fn create(prefix: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        remove_leftovers(prefix);
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{counter}", process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        // Router solicitations and the like would only be noise in the counters. A kernel without
        // IPv6 has nothing to switch off.
        for scope in ["all", "default"] {
            let _ = namespace.set_sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1");
        }
        Ok(namespace)
    }

    /// Returns the name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a new thread inside the namespace and returns its value.
    ///
    /// Sockets opened there stay in the namespace and may be used from any thread afterwards.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// If `work` panics, with the same payload.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("open {}", self.name))?;
        let inside = || -> Result<T> {
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), kind)
                .with_context(|| format!("enter {}", self.name))?;
            Ok(work())
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Builds a command that runs `program` inside the namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Sets a kernel parameter of the namespace, such as `net/ipv4/ping_group_range`.
    ///
    /// # Errors
    ///
    /// If there is no such parameter in a namespace, or the kernel refuses the value.
    pub fn set_sysctl(&self, parameter: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(parameter);
        self.run(|| fs::write(&path, value))?
            .with_context(|| format!("write {value:?} to {} in {}", path.display(), self.name))
    }

    /// Runs `ip` with `arguments` on the interfaces of the namespace.
    ///
    /// # Errors
    ///
    /// If `ip` fails; its message.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        ip(&[&["-n", self.name.as_str()], arguments].concat())
    }

    fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // There is nobody to tell; the next run removes it as a leftover.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// Tells whether namespaces and TUN devices can be used here, by making one of each.
///
/// # Errors
///
/// The reason why not, for people to read.
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root".to_owned());
    }
    if let Err(error) = Command::new("ip").arg("-V").output() {
        return Err(format!("`ip` of iproute2 cannot be run: {error}"));
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        return Err(format!("/dev/net/tun cannot be opened: {error}"));
    }
    let attempt = || Tun::open(&Namespace::create("wanctl-try")?, "try0").map(drop);
    attempt().map_err(|error| format!("{error:#}"))
}

/// Returns whether a test named `test` can use namespaces; says on standard error why it cannot.
///
/// # Panics
///
/// If it cannot although it has to: the environment variable `CI` is set, or
/// `WANCTL_REQUIRE_NETNS` is 1.
#[must_use]
pub fn usable_or_skip(test: &str) -> bool {
    let Err(reason) = available() else { return true };
    let required = env::var_os("CI").is_some_and(|value| !value.is_empty())
        || env::var_os("WANCTL_REQUIRE_NETNS").is_some_and(|value| value == "1");
    assert!(!required, "{test} cannot run: {reason}");
    // Written past the capture of the test harness: a skipped test should be seen.
    let _ = writeln!(io::stderr(), "{test} is skipped: {reason}");
    false
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run `ip`")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}`: {}", arguments.join(" "), message.trim());
    }
    Ok(())
}

fn remove_leftovers(prefix: &str) {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner(name, prefix).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may be removing it as well.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// The process that made the namespace `name`, if it is one of ours with this prefix.
fn owner(name: &str, prefix: &str) -> Option<u32> {
    let (pid, counter) = name.strip_prefix(prefix)?.strip_prefix('-')?.split_once('-')?;
    counter.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_pattern_have_an_owner() {
        assert_eq!(owner("wanctl-12-0", "wanctl"), Some(12));
        assert_eq!(owner("wanctl-lan-12-3", "wanctl-lan"), Some(12));
        for foreign in ["wanctl-lan-12-3", "wanctl-12", "wanctl-12-x", "other-12-0", "wanctl"] {
            assert_eq!(owner(foreign, "wanctl"), None, "{foreign}");
        }
    }
}
