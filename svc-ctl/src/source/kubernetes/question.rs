//! The next request to the API server: a list from its cache, a streamed list, a list from etcd, or a watch.

use kube::api::{ListParams, VersionMatch, WatchParams};

use super::failure::Failure;

/// The version that every cache can serve.
const ANY_VERSION: &str = "0";

/// The requested objects, and how to request them.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub labels: Option<String>,
    pub fields: Option<String>,
    /// The selector may be left out for a server that does not know the fields.
    pub fields_are_optional: bool,
    /// Request lists as streams.
    pub is_streamed: bool,
    /// Objects per page of a list that does not come from the server's cache.
    pub page_size: u32,
}

#[derive(Debug)]
pub struct Question {
    selection: Selection,
    /// The newest known version.
    version: Option<String>,
    /// The list is complete, and a watch continues from `version`.
    pub is_listed: bool,
    /// The server's cache could not answer the last list, so etcd is asked.
    pub is_quorum: bool,
}

impl Question {
    pub const fn new(selection: Selection) -> Self {
        Self { selection, version: None, is_listed: false, is_quorum: false }
    }

    /// A streamed list is a watch as well.
    pub const fn is_watch(&self) -> bool {
        self.is_listed || self.selection.is_streamed
    }

    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(ANY_VERSION)
    }

    /// Objects of a list are not ordered by version; only its end has a version.
    pub fn advance(&mut self, version: Option<String>) {
        if self.is_listed && version.as_ref().is_some_and(|version| !version.is_empty()) {
            self.version = version;
        }
    }

    /// The cache answers in one page, at least as new as the known version.
    pub fn list_params(&self, continue_token: Option<String>) -> ListParams {
        let params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            continue_token,
            ..ListParams::default()
        };
        match self.is_quorum {
            true => ListParams { limit: Some(self.selection.page_size), ..params },
            // With a limit, kube would leave out the version 0.
            false => ListParams {
                resource_version: Some(self.version().to_owned()),
                version_match: Some(VersionMatch::NotOlderThan),
                ..params
            },
        }
    }

    pub fn watch_params(&self) -> WatchParams {
        WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            send_initial_events: !self.is_listed,
            ..WatchParams::default()
        }
    }

    /// Changes the request after a failure, if that helps. Returns true if the server is healthy and refused only this
    /// request.
    pub fn change_after(&mut self, failure: &Failure) -> bool {
        let is_from_the_future =
            failure.code == Some(504) && failure.text.contains("Too large resource version");
        match failure.code {
            // Too old for a watch; the list must still not be older than the known version.
            Some(410) if self.is_listed => {}
            Some(410) => self.leave_cache(),
            _ if is_from_the_future => self.leave_cache(),
            // Servers before 1.32 may refuse to stream lists, those before 1.31 do not know the field selector.
            Some(400 | 405 | 415 | 422) if self.selection.is_streamed => self.selection.is_streamed = false,
            Some(400 | 405 | 415 | 422) if self.selection.fields_are_optional => {
                self.selection.fields = None;
                self.selection.fields_are_optional = false;
            }
            _ => return false,
        }
        self.is_listed = false;
        true
    }

    /// The cache has no list that is new enough: etcd was restored, or is ahead of the cache.
    fn leave_cache(&mut self) {
        self.version = None;
        self.is_quorum = !self.selection.is_streamed;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failure(code: u16, text: &str) -> Failure {
        Failure { code: Some(code), text: text.to_owned(), retry_after: Duration::ZERO }
    }

    /// Kind, version and limit of the request.
    fn asked(question: &Question) -> (&'static str, Option<String>, Option<u32>) {
        if question.is_watch() {
            let kind = if question.is_listed { "watch" } else { "stream" };
            return (kind, Some(question.version().to_owned()), None);
        }
        let params = question.list_params(None);
        ("list", params.resource_version, params.limit)
    }

    #[test]
    fn each_refusal_changes_the_next_request() {
        let selection = Selection { is_streamed: true, page_size: 500, ..Selection::default() };
        let mut question = Question::new(selection);
        assert_eq!(asked(&question), ("stream", Some("0".into()), None));
        assert!(question.change_after(&failure(422, "no streams")));
        assert_eq!(asked(&question), ("list", Some("0".into()), None));
        question.is_listed = true;
        question.advance(Some("7".to_owned()));
        assert_eq!(asked(&question), ("watch", Some("7".into()), None));
        assert!(!question.change_after(&failure(500, "away")));
        assert_eq!(asked(&question), ("watch", Some("7".into()), None));
        assert!(question.change_after(&failure(410, "too old")));
        assert_eq!(asked(&question), ("list", Some("7".into()), None));
        assert!(!question.change_after(&failure(504, "a gateway is slow")));
        assert!(question.change_after(&failure(504, "Too large resource version: 7, current: 3")));
        assert_eq!(asked(&question), ("list", None, Some(500)));
    }
}
