//! Makes `docs/faults.md` from the table.

use std::fmt::Write as _;
use std::path::Path;

use wanctl_sim::routeros::FAULT_NAMES;

use super::run::{Scene, Step, When};
use super::table::{ROWS, Row};

const HEAD: &str = "\
# Faults of the router

What the daemon does when its router misbehaves. This file is made from the table of the test that runs
the built `wanctl` against every fault, over real sockets (`host-sim/tests/faults`); the test fails when
they differ. `WANCTL_WRITE_DOCS=1 cargo test -p wanctl-sim --test faults docs_` makes it anew.

Unless the daemon ends at the start or the router rounds a rate, the test asserts of every row that the control steps go on, that no rate outside
floor and ceiling is written, that the router holds our rates after the fault, that it is left with the
`fail-safe` rates at the end, and that there is never more than one request at a time and no storm of
them. A retry waits 0.5 s, then twice as long, up to 30 s. A request may take 30 s: giving one up
harms the router's web server (fault 5).

Most faults are tried over both transports, REST and the binary API; the second table below says which are
not, and why.

The emulator shows each fault: `wanctl-sim routeros --fault NAME[:DETAIL]`, for requests also
`,method=M`, `,path=P`, `,percent=N`, `,times=N`, and for all `,from=TIME` and `,until=TIME`.
";

const API: &str = "
## Over the binary API

The same with `transport = \"api\"`, of which every part but the transport itself is the same program. A
session that has ended costs a login; the command that met its end is sent again, once. A user who is logged in
stays so when the password changes: the emulator takes that for granted, nobody has recorded it.

| # | Fault | Begins | The log says | Afterwards |
|---|---|---|---|---|
";

/// Compares the file with the table, or writes it.
pub(crate) fn check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md");
    let text = text();
    if std::env::var_os("WANCTL_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("docs can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/faults.md differs; run this test with WANCTL_WRITE_DOCS=1");
}

fn text() -> String {
    let mut text = HEAD.to_owned();
    text.push_str(
        "\n| # | What happens | What the daemon does | How it recovers |\n|---|---|---|---|\n",
    );
    for (number, row) in (1..).zip(&ROWS) {
        let Row { happens, does, recovers, .. } = row;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {number} | {happens} | {does} | {recovers} |");
    }
    text.push_str(
        "\n## What the user sees\n\nEach line is one run of the test: the fault, when it \
                   begins, and pieces of the log while it lasts and after it has ended.\n",
    );
    text.push_str("\n| # | Fault | Begins | The log says | Afterwards |\n|---|---|---|---|---|\n");
    for ((number, (name, _)), row) in (1..).zip(FAULT_NAMES).zip(&ROWS) {
        for step in row.steps {
            assert!(step.fault.starts_with(name), "{}", step.fault);
            let _ = writeln!(text, "| {number} | `{}` | {} |", step.fault, sees(step));
        }
    }
    text.push_str(API);
    for (number, row) in (1..).zip(&ROWS) {
        match row.api {
            Ok(steps) => {
                for step in steps {
                    let _ = writeln!(text, "| {number} | `{}` | {} |", step.fault, sees(step));
                }
            }
            Err(reason) => {
                let _ = writeln!(text, "| {number} | not tried | | {reason} | |");
            }
        }
    }
    text
}

fn sees(step: &Step) -> String {
    let scene = match step.scene {
        Scene::Idle => "",
        Scene::Busy => ", traffic flows",
        Scene::Steering => ", with steering",
    };
    let pieces = |pieces: &[&str]| {
        let quoted: Vec<_> = pieces.iter().map(|piece| format!("`{}`", piece.trim())).collect();
        if quoted.is_empty() { "no warning".to_owned() } else { quoted.join(", ") }
    };
    let (when, then) = match step.when {
        When::Start => ("before the start", pieces(step.then)),
        When::Running => ("while it runs", pieces(step.then)),
        When::Ends(reason) => {
            ("before the start", format!("ends with exit code {}", reason.code()))
        }
    };
    format!("{when}{scene} | {} | {then}", pieces(step.says))
}
