//! Recording, incidents and reloads for people, for programs and as metrics.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::metrics::{Page, count};
use crate::clock;
use crate::published::Notices;
use crate::trace_file::ring::show_bytes;

/// Returns how long ago the latest incident was marked, in s.
fn incident_age_s(notices: &Notices) -> Option<u64> {
    let passed = clock::now().checked_duration_since(notices.last_incident?);
    Some(passed.map_or(0, |passed| passed.as_secs()))
}

/// Returns a line for each that there is something to say of.
pub(super) fn text(notices: &Notices) -> String {
    let mut text = String::new();
    if let Some(recorder) = &notices.recorder {
        let (ring, report) = (recorder.ring(), recorder.report());
        let _infallible = writeln!(
            text,
            "recording: {} of {} in {} segments, {} pinned; {report}",
            show_bytes(ring.bytes()),
            show_bytes(ring.size()),
            ring.segments(),
            ring.pinned()
        );
    }
    if let Some(age_s) = incident_age_s(notices) {
        let ago = humantime::format_duration(std::time::Duration::from_secs(age_s));
        let _infallible =
            writeln!(text, "incidents: {} marked, the latest {ago} ago", notices.incidents);
    }
    if notices.reloads + notices.reloads_refused > 0 {
        let _infallible = writeln!(
            text,
            "reloads: {} done, {} refused",
            notices.reloads, notices.reloads_refused
        );
    }
    text
}

pub(super) fn recording_json(notices: &Notices) -> Value {
    let Some(recorder) = &notices.recorder else { return Value::Null };
    let (ring, report) = (recorder.ring(), recorder.report());
    json!({
        "bytes": ring.bytes(),
        "bytes_max": ring.size(),
        "segments": ring.segments(),
        "segments_pinned": ring.pinned(),
        "records_written": report.written,
        "records_lost": report.lost,
        "is_losing": recorder.is_losing(),
    })
}

pub(super) fn incidents_json(notices: &Notices) -> Value {
    json!({ "marked": notices.incidents, "latest_age_s": incident_age_s(notices) })
}

pub(super) fn reloads_json(notices: &Notices) -> Value {
    let Notices { reloads, reloads_refused, refusal, .. } = notices;
    json!({ "done": reloads, "refused": reloads_refused, "refusal": refusal })
}

pub(super) fn metrics(page: &mut Page, notices: &Notices) {
    let incidents = f64::from(notices.incidents);
    page.single("incidents_total", "counter", "Incidents marked by SIGUSR2.", incidents);
    let (name, help) = ("reloads_total", "Configuration reloads that were carried out.");
    page.single(name, "counter", help, f64::from(notices.reloads));
    let (name, help) = ("reloads_refused_total", "Configuration reloads that were refused.");
    page.single(name, "counter", help, f64::from(notices.reloads_refused));
    let Some(recorder) = &notices.recorder else { return };
    let (ring, report) = (recorder.ring(), recorder.report());
    let (name, help) = ("recording_bytes", "Bytes of the flight recorder on the disk.");
    page.single(name, "gauge", help, count(ring.bytes()));
    let (name, help) = ("recording_records_total", "Records on the disk.");
    page.single(name, "counter", help, count(report.written));
    let help = "Records that the disk was too slow for, or did not take.";
    page.single("recording_records_lost_total", "counter", help, count(report.lost));
}
