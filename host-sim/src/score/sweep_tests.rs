//! Tests of sweeps.

use super::*;

const TWO_BY_TWO: &str = "law = 'classic-tuned'\nonly = ['dsl']\nseeds = 1\n\n[parameters]\n\
    'classic.target_delay' = [10000, 15000]\n'classic.green_hold' = [100000, 250000]\n";

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("sweep.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn args(file: &Path, out: &Path, shard: Option<Shard>) -> SweepArgs {
    SweepArgs {
        file: file.to_owned(),
        out: Some(out.to_owned()),
        shard,
        report: Vec::new(),
        top: 20,
        threads: NonZeroUsize::new(2),
    }
}

#[test]
fn shards_together_give_what_one_run_gives() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), TWO_BY_TWO);
    let whole = folder.path().join("whole.jsonl");
    run(&args(&file, &whole, None), &mut Vec::new()).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for index in 1..=3 {
        let part = folder.path().join(format!("{index}.jsonl"));
        let shard = Some(Shard { index, count: 3 });
        run(&args(&file, &part, shard), &mut Vec::new()).unwrap();
        lines.extend(std::fs::read_to_string(part).unwrap().lines().map(str::to_owned));
    }
    lines.sort();
    let whole = std::fs::read_to_string(whole).unwrap();
    let mut expected: Vec<&str> = whole.lines().collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(lines.len(), 4);
}

/// Runs a sweep, takes the end of its last line away, and returns what was there.
fn interrupted(file: &Path, out: &Path) -> Vec<u8> {
    run(&args(file, out, None), &mut Vec::new()).unwrap();
    let whole = std::fs::read(out).unwrap();
    std::fs::write(out, &whole[..whole.len() - 40]).unwrap();
    whole
}

#[test]
fn an_interrupted_sweep_goes_on_behind_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), TWO_BY_TWO);
    let out = folder.path().join("out.jsonl");
    let whole = interrupted(&file, &out);
    let mut said = Vec::new();
    run(&args(&file, &out, None), &mut said).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), whole);
    assert!(String::from_utf8(said).unwrap().contains("4 points, 1 of them new"));
}

#[test]
fn a_file_that_is_no_sweeps_keeps_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), TWO_BY_TWO);
    let notes = folder.path().join("notes.txt");
    for text in ["my notes", "first\nsecond without an end"] {
        std::fs::write(&notes, text).unwrap();
        let error = run(&args(&file, &notes, None), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("notes.txt:1: expected a result"), "{error}");
        assert_eq!(std::fs::read_to_string(&notes).unwrap(), text);
    }
}

#[test]
fn a_report_leaves_out_what_a_shard_is_still_writing() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), TWO_BY_TWO);
    let out = folder.path().join("out.jsonl");
    interrupted(&file, &out);
    let mut said = Vec::new();
    let report = SweepArgs { out: None, report: vec![out], ..args(&file, &file, None) };
    run(&report, &mut said).unwrap();
    assert!(String::from_utf8(said).unwrap().starts_with("3 of 4 points;"));
}

#[test]
fn a_suite_is_named_from_the_sweep_files_folder_and_its_results_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let suite = folder.path().join("mine.toml");
    let text = "[[scenario]]\nname = 'a'\nseconds = 20\ndownload = { ceiling-mbps = 50, floor-mbps = 5, flows = 1 }\n\
        upload = { ceiling-mbps = 10, floor-mbps = 1 }\n";
    std::fs::write(&suite, text).unwrap();
    let file = write(folder.path(), &TWO_BY_TWO.replace("only = ['dsl']", "suite = 'mine.toml'"));
    let out = folder.path().join("out.jsonl");
    run(&args(&file, &out, None), &mut Vec::new()).unwrap();
    std::fs::write(&suite, text.replace("50", "60")).unwrap();
    let error = run(&args(&file, &out, None), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("out.jsonl:1: this result belongs to another"), "{error}");
}

#[test]
fn results_of_another_sweep_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), TWO_BY_TWO);
    let out = folder.path().join("out.jsonl");
    run(&args(&file, &out, None), &mut Vec::new()).unwrap();
    let file = write(folder.path(), &TWO_BY_TWO.replace("10000", "11000"));
    let error = run(&args(&file, &out, None), &mut Vec::new()).unwrap_err();
    assert!(error.downcast_ref::<InputError>().is_some(), "{error:#}");
    assert!(error.to_string().contains("out.jsonl:1: this result belongs to another"), "{error}");
}

#[test]
fn a_malformed_sweep_is_named_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("law = 'classic-tuned'\nseeds = 'many'\n[parameters]\n", "sweep.toml:2: "),
        ("seeds = 1\nlaw = 'best'\n[parameters]\n", "sweep.toml:2: there is no law `best`"),
        ("seeds = 1\nsuite = 'x'\nlaw = 'classic'\n[parameters]\n", "sweep.toml:2: "),
        ("seeds = 1\nsuite = 'none'\n[parameters]\n", "sweep.toml:2: expected a suite"),
        (
            "seeds = 1\nlaw = 'autorate'\n[parameters]\nx = [1]\n",
            "sweep.toml:2: expected a law with",
        ),
        ("law = 'classic-tuned'\nseeds = 1\n[parameters]\n\n'classic.x' = [1]\n", "sweep.toml:5: "),
        (
            "law = 'classic-tuned'\nseeds = 1\n[parameters]\n'classic.quirks' = [1]\n",
            "sweep.toml:4: ",
        ),
        (
            "law = 'classic-tuned'\nseeds = 1\n[parameters]\n'classic.green_hold' = []\n",
            "sweep.toml:4: expected at least",
        ),
        ("law = 'classic-tuned'\nseeds = 0\n[parameters]\n", "sweep.toml: expected 1 to"),
    ] {
        let file = write(folder.path(), text);
        let error = Sweep::read(&file).unwrap_err();
        assert!(error.downcast_ref::<InputError>().is_some(), "{error:#}");
        assert!(error.to_string().contains(expected), "{error} does not contain {expected}");
    }
}
