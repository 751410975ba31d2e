//! The script of `wanctl router-setup` for each configuration in `configs/`.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use wanctl::cli::{self, Cli};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn script_of(config: &Path) -> String {
    let config = config.to_str().expect("a path of this repository");
    let command = Cli::try_parse_from(["wanctl", "router-setup", "--config", config]);
    let mut out = Vec::new();
    cli::main(&command.expect("a valid command line"), &mut out).expect("a good configuration");
    String::from_utf8(out).expect("text")
}

/// Returns whether a configuration is about a router.
fn has_router(config: &Path) -> bool {
    let text = std::fs::read_to_string(config).expect("an example");
    text.lines().any(|line| line == "[router]")
}

/// All shipped configurations with a router: name and script.
fn shipped() -> Vec<(String, String)> {
    let files = std::fs::read_dir(root().join("configs")).expect("the folder is there");
    let paths = files.map(|file| file.expect("a file").path());
    let mut scripts: Vec<(String, String)> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| has_router(path))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, script_of(&path))
        })
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 3, "configs holds too few examples");
    scripts
}

#[test]
fn the_script_of_each_shipped_configuration_is_known() {
    for (name, script) in shipped() {
        let golden = format!("shell/tests/golden/router-setup-{name}.rsc");
        let known = std::fs::read_to_string(root().join(&golden)).unwrap_or_default();
        for (number, (is, should)) in script.lines().zip(known.lines()).enumerate() {
            assert_eq!(is, should, "line {} of {golden}", number + 1);
        }
        assert_eq!(
            script.lines().count(),
            known.lines().count(),
            "{golden} is another; if it should be: \
             wanctl router-setup --config configs/{name}.toml > {golden}"
        );
    }
}

/// Returns whether quotes and brackets outside quotes are balanced.
fn is_balanced(command: &str) -> bool {
    let (mut open, mut in_quotes) = (Vec::new(), false);
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match (letter, in_quotes) {
            ('\\', true) => {
                letters.next();
            }
            ('"', _) => in_quotes = !in_quotes,
            ('{' | '[' | '(', false) => open.push(letter),
            ('}' | ']' | ')', false) => {
                let pair = match letter {
                    '}' => '{',
                    ']' => '[',
                    _ => '(',
                };
                if open.pop() != Some(pair) {
                    return false;
                }
            }
            _ => {}
        }
    }
    open.is_empty() && !in_quotes
}

#[test]
fn every_command_is_whole_and_looks_before_it_changes_anything() {
    let harmless = [":global ", ":if ([:len ["];
    for (name, script) in shipped() {
        let commands: Vec<&str> =
            script.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let (last, others) = commands.split_last().expect("commands");
        assert_eq!(*last, "/system/script/environment/remove [find name~\"^wanctl\"]");
        for command in others {
            assert!(is_balanced(command), "{name}: {command}");
            assert!(harmless.iter().any(|start| command.starts_with(start)), "{name}: {command}");
        }
        assert!(commands.len() > 10, "{name}");
        for destructive in ["/remove numbers", "/reset", "/disable", "/set [find"] {
            assert!(!commands.iter().any(|command| command.contains(destructive)), "{name}");
        }
    }
    assert!(!is_balanced("{ a ]") && !is_balanced("\"a") && is_balanced("{ \"]\\\"\" }"));
}

#[test]
fn every_variable_that_is_used_is_filled_in_first() {
    for (name, script) in shipped() {
        let uses = script.split('$').skip(1);
        let names =
            uses.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or(""));
        for variable in names {
            let definition = format!(":global {variable} ");
            let defined = script.find(&definition);
            let used = script.find(&format!("${variable}"));
            assert!(defined.is_some() && defined < used, "{name}: {variable}");
        }
    }
}

/// Other forms of a configuration than the shipped ones.
#[test]
fn plain_http_public_certificates_and_names_are_respected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = std::fs::read_to_string(root().join("configs/home-dsl.toml")).expect("an example");
    let with_all = |changes: &[(&str, &str)]| {
        let mut text = text.clone();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let path = folder.path().join("wanctl.toml");
        std::fs::write(&path, text).expect("a file");
        script_of(&path)
    };
    let with = |from, to| with_all(&[(from, to)]);
    let without_ca = ("ca-file", "# ca-file");
    let plain = with_all(&[("https://", "http://"), without_ca]);
    assert!(plain.contains("in clear text") && !plain.contains("/certificate/add"), "{plain}");
    let public = with_all(&[without_ca]);
    assert!(public.contains("a public CA") && !public.contains("/certificate/add"), "{public}");
    let named = with("https://192.168.88.1", "https://router.lan:8443");
    assert!(named.contains("subject-alt-name=\"DNS:router.lan\""), "{named}");
    assert!(named.contains("port=8443"), "{named}");
    let six = with("https://192.168.88.1", "https://[fd00::1]");
    assert!(six.contains("subject-alt-name=\"IP:fd00::1\""), "{six}");
}
