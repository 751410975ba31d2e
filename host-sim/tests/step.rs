//! The step interface: the documented example, and what is refused.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use wanctl_sim::step;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Feeds lines to the program; returns its lines and its exit code.
fn run(input: &str) -> (String, Option<i32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"))
        .args(["step", "--config"])
        .arg(root().join("configs/home-cable.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn the_documented_example_is_what_happens() {
    let document = std::fs::read_to_string(root().join("docs/step-interface.md")).unwrap();
    let mut blocks = document.split("```json\n").skip(1);
    let mut block = || blocks.next().and_then(|rest| rest.split("```").next()).unwrap();
    let (input, expected) = (block(), block());
    let (actual, code) = run(input);
    assert_eq!(actual, expected, "the program has said:\n{actual}");
    assert_eq!(code, Some(1), "the last line of the example is refused");
}

#[test]
fn what_is_not_understood_is_refused_and_the_rest_answered() {
    let good = r#"{"version":1,"tick":{"now":50000}}"#;
    let long = format!("{}{good}", " ".repeat(70_000));
    let refused = [
        r#"{"version":2,"tick":{"now":50000}}"#,
        r#"{"version":1,"tick":{"now":50000,"colour":1}}"#,
        r#"{"version":1,"tick":{"now":50000},"colour":1}"#,
        r#"{"version":1,"tick":{"now":50000,"losses":[{"wan":0,"reflector":0,"x":0}]}}"#,
        r#"{"version":1,"tick":{}}"#,
        r#"{"version":1,"tick":{"now":-1}}"#,
        "",
        long.as_str(),
    ];
    let config = wanctl_core::example::config();
    for line in refused {
        let mut out = Vec::new();
        let input = format!("{line}\n{good}\n");
        assert!(!step::serve(&config, input.as_bytes(), &mut out).unwrap(), "{line}");
        let out = String::from_utf8(out).unwrap();
        let (error, outputs) = out.split_once('\n').unwrap();
        assert!(error.starts_with(r#"{"version":1,"error":""#), "{error}");
        assert!(outputs.starts_with(r#"{"version":1,"outputs":{"actions":[{"SendProbe""#), "{out}");
    }
    assert!(step::serve(&config, format!("{good}\n{good}").as_bytes(), &mut Vec::new()).unwrap());
}
