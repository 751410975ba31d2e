//! Requests and replies that are kept back.

use std::sync::Arc;

use super::shared::Shared;

/// Where a held request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldPoint {
    /// Before it has any effect.
    Requests,
    /// After its effect, before its reply.
    Replies,
}

/// Keeps requests or replies back while it lives.
#[derive(Debug)]
#[must_use = "dropping the hold releases what it keeps back"]
pub struct ReplyHold {
    shared: Arc<Shared>,
    point: HoldPoint,
}

impl ReplyHold {
    pub(crate) fn new(shared: &Arc<Shared>, point: HoldPoint) -> Self {
        shared.change_holds(point, |holds| *holds += 1);
        Self { shared: Arc::clone(shared), point }
    }
}

impl Drop for ReplyHold {
    fn drop(&mut self) {
        self.shared.change_holds(self.point, |holds| *holds -= 1);
    }
}
