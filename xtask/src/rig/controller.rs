//! What moves the shapers: our daemon by one of its two ways to CAKE, a program of the user, or nobody.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::scenario::{Line, Scenario};
use crate::run::target;

/// Who shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Controller {
    /// Nobody: CAKE keeps the rates of the start.
    Fixed,
    /// Our daemon, with the qdiscs in its own kernel.
    LinuxCake,
    /// The same with the classic law.
    Classic,
    /// Our daemon, with the emulated router and its latency between it and the qdiscs.
    RouterOs,
    /// A command for `bash -c`, in the router's namespace.
    Command(String),
}

/// Names of a line's interfaces, tree queues and network, as `lib.sh` has them.
const LINES: [(&str, &str, &str, &str, &str); 2] = [
    ("ifb4wan", "wan", "WAN-Download", "WAN-Upload", "203.0.113"),
    ("ifb4wan2", "wan2", "WAN2-Download", "WAN2-Upload", "198.51.100"),
];

impl Controller {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Fixed => "none",
            Self::LinuxCake => "linux-cake",
            Self::Classic => "classic",
            Self::RouterOs => "routeros",
            Self::Command(_) => "cmd",
        }
    }

    /// Tells whether our own programs are needed.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::LinuxCake | Self::Classic | Self::RouterOs)
    }

    /// Puts the files that start it into the folder of results; `false` when there is nothing to start.
    pub(crate) fn prepare(&self, scenario: &Scenario, folder: &Path) -> Result<bool> {
        let script = match self {
            Self::Fixed => return Ok(false),
            Self::Command(command) => {
                let described = describe(scenario);
                write(folder, "scenario.sh", &described)?;
                format!(". \"$OUT/scenario.sh\"\nexport OUT\n{command}\n")
            }
            Self::LinuxCake | Self::Classic | Self::RouterOs => {
                write(folder, "wanctl.toml", &self.config(scenario))?;
                write(folder, "password", "wanctl\n")?;
                self.script(scenario)
            }
        };
        write(folder, "controller.sh", &script)?;
        Ok(true)
    }

    fn script(&self, scenario: &Scenario) -> String {
        let programs = target().join("release");
        let mut script = format!("cd \"$OUT\" || exit\nprograms='{}'\n", programs.display());
        if *self == Self::RouterOs {
            let bonds = LINES.iter().take(scenario.lines.len());
            let bonds = bonds.map(|(down, up, down_queue, up_queue, _)| {
                format!("{down_queue}={down},{up_queue}={up}")
            });
            let bonds: Vec<String> = bonds.collect();
            let _fits = writeln!(
                script,
                "\"$programs/wanctl-sim\" routeros --https 127.0.0.1:8443 --ca-out ca.pem --fault latency:rb5009 \\\n  \
                 --tc {} >router.log 2>&1 &\n\
                 for _ in {{1..100}}; do [ -s ca.pem ] && break; sleep 0.05; done",
                bonds.join(",")
            );
        }
        script + "exec \"$programs/wanctl\" run --config wanctl.toml --record recording\n"
    }

    /// Writes the daemon's configuration for the lines of a scenario.
    fn config(&self, scenario: &Scenario) -> String {
        let mut text =
            "on-exit = \"keep\"\nstatus-interval = \"10s\"\nrun-dir = \"/run/wanctl\"\n".to_owned();
        text.push_str(match self {
            Self::RouterOs => {
                "\n[router]\nurl = \"https://127.0.0.1:8443\"\nuser = \"wanctl\"\npassword-file = \"password\"\n\
                 ca-file = \"ca.pem\"\n"
            }
            _ => "backend = \"linux-cake\"\n",
        });
        for (line, names) in scenario.lines.iter().zip(LINES) {
            let (down, up, down_queue, up_queue, net) = names;
            let Line { floor, ceiling, .. } = line;
            let _fits = write!(
                text,
                "\n[[wan]]\nname = \"{up}\"\ninterface = \"{up}\"\nreflectors = [\"{net}.11\", \"{net}.12\", \"{net}.13\"]\n"
            );
            if *self == Self::Classic {
                text.push_str("law = \"classic\"\n");
            }
            if *self != Self::RouterOs {
                let _fits =
                    write!(text, "download-interface = \"{down}\"\nupload-interface = \"{up}\"\n");
            }
            let directions = [
                ("download", down_queue, floor.0, ceiling.0),
                ("upload", up_queue, floor.1, ceiling.1),
            ];
            for (direction, queue, floor, ceiling) in directions {
                let _fits = writeln!(text, "\n[wan.{direction}]");
                if *self == Self::RouterOs {
                    let _fits = writeln!(text, "queue = \"{queue}\"");
                }
                let _fits = writeln!(text, "floor = \"{floor}M\"\nceiling = \"{ceiling}M\"");
            }
        }
        text
    }
}

/// What a command of the user can know: interfaces, reflectors, and limits in kbit/s.
fn describe(scenario: &Scenario) -> String {
    let mut text = String::new();
    for ((line, names), number) in scenario.lines.iter().zip(LINES).zip(1..) {
        let (down, up, _, _, net) = names;
        let kbit = |mbit: f64| (mbit * 1000.0).round();
        let values = [
            ("DOWN_INTERFACE", down.to_owned()),
            ("UP_INTERFACE", up.to_owned()),
            (
                "REFLECTORS",
                (11..=16).map(|host| format!("{net}.{host}")).collect::<Vec<_>>().join(" "),
            ),
            ("DOWN_MIN_KBIT", kbit(line.floor.0).to_string()),
            ("DOWN_BASE_KBIT", kbit(line.start.0).to_string()),
            ("DOWN_MAX_KBIT", kbit(line.ceiling.0).to_string()),
            ("UP_MIN_KBIT", kbit(line.floor.1).to_string()),
            ("UP_BASE_KBIT", kbit(line.start.1).to_string()),
            ("UP_MAX_KBIT", kbit(line.ceiling.1).to_string()),
        ];
        for (name, value) in values {
            let suffix = if number == 1 { String::new() } else { format!("_{number}") };
            let _fits = writeln!(text, "export {name}{suffix}='{value}'");
        }
    }
    text
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
