//! The step interface: the documented example, and what is refused.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use wanctl_core::tick::Tick;
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

/// Reads a schema of this version.
fn schema(way: &str) -> (Value, jsonschema::Validator) {
    let path = root().join(format!("docs/step-{way}-{}.schema.json", step::VERSION));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    (schema, validator)
}

#[test]
fn the_schema_knows_every_field_of_a_tick() {
    let (schema, _) = schema("in");
    let of_tick = &schema["properties"]["tick"]["properties"];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let tick = serde_json::to_value(Tick::new(embassy_time::Instant::MIN)).unwrap();
    assert_eq!(keys(of_tick), keys(&tick));
}

#[test]
fn the_schema_and_the_program_agree_about_lines_in() {
    let (_, validator) = schema("in");
    let config = wanctl_core::example::two_wans();
    let good = [
        r#""samples":[{"wan":0,"reflector":2,"rtt":20000000,"age_us":1}]"#,
        r#""samples":[{"wan":0,"reflector":2,"rtt":2,"age_us":1,"upload_owd":0}]"#,
        r#""samples":[{"wan":0,"reflector":2,"rtt":2,"age_us":1,"upload_owd":null}]"#,
        r#""replaced":[{"wan":0,"reflector":2}]"#,
        r#""losses":[{"wan":1,"reflector":0}],"inputs_dropped":3"#,
        r#""connectivity":[{"wan":0,"kind":"Tcp","connected":true}]"#,
        r#""links":[{"wan":0,"oper_state":"Down","address_changed":false}]"#,
        r#""counters":[{"wan":0,"direction":"Upload","delivered_bytes":1,"dropped_packets":2,"backlog_bytes":3,"backlog_packets":4,"age_us":5}]"#,
        r#""counters":[{"wan":0,"direction":"Upload","delivered_bytes":1,"dropped_packets":2,"backlog_bytes":3,"backlog_packets":4,"age_us":5,"queue_delay_us":6}]"#,
        r#""replies":[{"wan":0,"direction":"Upload","id":1,"outcome":{"Applied":5},"took_us":1}]"#,
        r#""replies":[{"wan":0,"direction":"Upload","id":1,"outcome":"Superseded","took_us":1}]"#,
        r#""steering_replies":[{"id":1,"succeeded":true,"took_us":1}]"#,
    ];
    let bad = [
        r#""samples":[{"wan":256,"reflector":2,"rtt":1,"age_us":1}]"#,
        r#""samples":[{"wan":0,"reflector":2,"rtt":-1,"age_us":1}]"#,
        r#""samples":null"#,
        r#""samples":[{"wan":0,"reflector":2,"rtt":2,"age_us":1,"upload_owd":32768}]"#,
        r#""losses":[{"wan":1}]"#,
        r#""links":[{"wan":0,"oper_state":"Sideways","address_changed":false}]"#,
        r#""replies":[{"wan":0,"direction":"Upload","id":1,"outcome":"Applied","took_us":1}]"#,
        r#""colour":1"#,
    ];
    let lines = good.map(|line| (line, true)).into_iter().chain(bad.map(|line| (line, false)));
    for (fields, is_good) in lines {
        let line = format!(r#"{{"version":1,"tick":{{"now":50000,{fields}}}}}"#);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(validator.is_valid(&value), is_good, "{line}");
        let served = step::serve(&config, line.as_bytes(), &mut Vec::new()).unwrap();
        assert_eq!(served, is_good, "{line}");
    }
}

#[test]
fn every_line_out_is_as_the_schema_says() {
    let (_, validator) = schema("out");
    let mut input = String::from("{}\n");
    for tick in 1..400 {
        let (now, rtt) = (tick * 50_000, if tick < 60 { 20_000_000 } else { 200_000_000 });
        let sample = format!(r#"{{"wan":0,"reflector":0,"rtt":{rtt},"age_us":0}}"#);
        let line = format!(r#"{{"version":1,"tick":{{"now":{now},"samples":[{sample}]}}}}"#);
        input.push_str(&format!("{line}\n"));
    }
    let mut out = Vec::new();
    step::serve(&wanctl_core::example::two_wans(), input.as_bytes(), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("SetSteering") && out.contains("SetRate") && out.contains("error"));
    for line in out.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(validator.is_valid(&value), "{line}");
    }
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
