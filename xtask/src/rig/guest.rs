//! One boot of the guest: a plan goes in, a folder of results comes out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::install::{Guest, Unavailable};

/// Memory of a guest; the modules, the overlay and a controller take less than half of it.
const MEMORY: &str = "mem=512M";
/// Lines of the guest's console and log that are shown when it fails.
const SHOWN_LINES: usize = 12;

impl Guest {
    /// Runs `plan.sh` of a folder, which gets everything that is measured; returns the time it took.
    ///
    /// # Errors
    /// The guest does not start or end, or the plan fails.
    pub(crate) fn run(&self, folder: &Path, speed: f64, limit: Duration) -> Result<Duration> {
        let begin = Instant::now();
        let sockets = folder.join("uml");
        fs::create_dir_all(&sockets)?;
        let console = fs::File::create(folder.join("console"))?;
        let errors = console.try_clone()?;
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        // The shim goes to the kernel alone: in timeout(1) its timers would do harm.
        let status = tied_to_us("timeout")
            .args(["-k", "5", &limit.as_secs().to_string(), "env"])
            .arg(path("LD_PRELOAD", &self.shim))
            .arg(format!("RIG_SPEED={speed}"))
            .arg(&self.kernel)
            .args([MEMORY, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
            .args(["con0=null,fd:1", "con=null"])
            .arg(path("uml_dir", &sockets))
            .arg(path("init", &self.scripts.join("init.sh")))
            .arg(path("RIG", &self.scripts))
            .arg(path("RIG_OUT", folder))
            .arg(path("RIG_MODULES", &self.modules))
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            .status()
            .context("cannot start setpriv(1) of util-linux")?;
        // Only sockets of the dead kernel are in there.
        let _gone = fs::remove_dir_all(&sockets);
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        if read("exit-status").trim() == "0" {
            return Ok(begin.elapsed());
        }
        let came_up = folder.join("log").exists() || folder.join("failed").exists();
        let what = match read("failed").trim() {
            "" if status.code() == Some(124) => format!("the guest was not done after {limit:?}"),
            "" if !came_up => format!(
                "the guest did not come up ({status}): user-mode Linux needs ptrace(2), executable memory in \
                 /dev/shm (or TMPDIR) and {} there; containers may forbid the first two",
                MEMORY.trim_start_matches("mem=")
            ),
            "" => "a command of the plan has failed".to_owned(),
            told => told.to_owned(),
        };
        let mut shown = String::new();
        for name in ["console", "log", "controller.log", "router.log"] {
            let text = read(name);
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            if !tail.is_empty() {
                shown.push_str(&format!("\n--- {name}\n{}", tail.join("\n")));
            }
        }
        let told = format!("{what}; everything is in {}{shown}", folder.display());
        if came_up { bail!(told) } else { Err(Unavailable(told).into()) }
    }
}

/// A program that gets SIGTERM when this one ends, however it ends. timeout(1) hands it on; it keeps its
/// child out of reach of Ctrl-C, so without this a guest would go on alone.
fn tied_to_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", program]);
    command
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::ExitStatusExt as _;
    use std::thread;

    use super::*;

    #[test]
    fn a_guest_ends_with_the_one_who_started_it() {
        // The kernel counts the thread that started a program as its parent.
        let start = || {
            let mut command = tied_to_us("sh");
            command.args(["-c", "echo up; exec sleep 1000"]).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            (child, line)
        };
        let (mut child, line) = thread::spawn(start).join().unwrap();
        assert_eq!((line.trim(), child.wait().unwrap().signal()), ("up", Some(15)));
    }
}
