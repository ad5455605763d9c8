//! Lists and watches one kind of object for ever, like client-go's reflector.
//!
//! A watch that ends is resumed. One that ends at once without an event counts as a failure. After "too old" (410)
//! the objects are listed again; the known ones stay in force until the new list is complete. Failures are retried
//! with growing pauses.
//!
//! kube-runtime's watcher is not used: it restarts without a pause when a watch ends, fails a whole list for one
//! object, and asks etcd for lists.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use futures::{AsyncBufReadExt as _, AsyncReadExt as _, StreamExt as _};
use k8s_openapi::Resource as _;
use kube::core::Request;
use kube::{Client, Resource};
use tokio::time::{Instant, timeout};

use super::failure::{Failure, Pauses};
use super::feed::{Closed, Feed, complaint, key};
use super::message::{Message, Page, read_line, read_object};
use super::own_node::OwnNode;
use super::question::{Question, Selection};
use super::read::Kind;
use crate::model::complaint::Complaint;
use crate::source::event::{Batch, Event};

/// Maximum number of objects that are passed on together.
const MAX_BATCH: usize = 256;
/// A watch that ends sooner and without an event has failed.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// The server ends a watch after 290 s, as kube requests. One that is silent for longer is dead.
const SILENT_WATCH: Duration = Duration::from_secs(295);

/// Follows one kind of object.
pub struct Reflector<'a, T> {
    client: Client,
    feed: &'a Feed,
    question: Question,
    own_node: Option<OwnNode>,
    /// Unparsable objects so far of an incomplete list.
    unreadable: BTreeMap<(String, String), Complaint>,
    has_unreadable: bool,
    pauses: Pauses,
    kind: PhantomData<T>,
}

/// Reasons for an early end of a list or a watch.
enum End {
    Failed(Failure),
    Closed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<kube::Error> for End {
    fn from(error: kube::Error) -> Self {
        Self::Failed(Failure::of(&error))
    }
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl<'a, T: Kind> Reflector<'a, T>
where
    T::Object: k8s_openapi::Resource,
{
    pub fn new(client: &Client, feed: &'a Feed, selection: Selection) -> Self {
        Self {
            client: client.clone(),
            feed,
            question: Question::new(selection),
            own_node: None,
            unreadable: BTreeMap::new(),
            has_unreadable: false,
            pauses: Pauses::default(),
            kind: PhantomData,
        }
    }

    /// Follows only our own Node.
    pub fn of_own_node(self, name: &str) -> Self {
        let own_node = Some(OwnNode::new(name, self.feed.ledger()));
        Self { own_node, ..self }
    }

    /// Lists and watches until the events' receiver is dropped.
    pub async fn follow(mut self) {
        loop {
            let tried = match self.question.is_watch() {
                true => self.watch().await,
                false => self.list().await,
            };
            let failed = match tried {
                Ok(()) => continue,
                Err(End::Failed(failure)) => self.outlive(&failure).await,
                Err(End::Closed) => Err(Closed),
            };
            if failed.is_err() {
                return;
            }
        }
    }

    /// One list, in pages. A single page comes from the server's cache.
    async fn list(&mut self) -> Result<(), End> {
        let mut token: Option<String> = None;
        loop {
            let request =
                Request::new(T::Object::url_path(&(), None)).list(&self.question.list_params(token.clone()));
            let request = request.map_err(kube::Error::BuildRequest)?;
            let mut json = String::new();
            let mut body = pin!(self.client.request_stream(request).await?);
            body.read_to_string(&mut json).await.map_err(|error| Failure::of_io(&error))?;
            let page: Page<'_> = serde_json::from_str(&json)
                .map_err(|error| Failure::of_text(format!("a list that cannot be read: {error}")))?;
            if token.is_none() {
                self.begin_list().await?;
            }
            for items in page.items.chunks(MAX_BATCH) {
                self.take(items.iter().map(|item| Ok(read_object(item)))).await?;
            }
            token = page.metadata.token.filter(|token| !token.is_empty());
            if token.is_none() {
                let version = page.metadata.resource_version;
                return self.take([Ok(Message::Bookmark { version, ends_list: true })]).await;
            }
        }
    }

    /// One watch; it begins with a list if none is complete.
    async fn watch(&mut self) -> Result<(), End> {
        let request = Request::new(T::Object::url_path(&(), None));
        let request = request.watch(&self.question.watch_params(), self.question.version());
        let body = self.client.request_stream(request.map_err(kube::Error::BuildRequest)?).await?;
        let (mut before, mut began) = (self.question.version().to_owned(), Instant::now());
        let body = pin!(body);
        let read = |line: io::Result<String>| line.map_or(Ok(Message::Cut), |line| read_line::<T>(&line));
        let mut messages = body.lines().map(read).ready_chunks(MAX_BATCH);
        if !self.question.is_listed {
            self.begin_list().await?;
        }
        let mut is_proven = false;
        loop {
            let was_listed = self.question.is_listed;
            let patience = if was_listed && !is_proven { SHORT_WATCH } else { SILENT_WATCH };
            match timeout(patience, messages.next()).await {
                Ok(Some(chunk)) => self.take(chunk).await?,
                Err(_) if was_listed && !is_proven => {}
                Ok(None) | Err(_) => break,
            }
            if self.question.is_listed && !was_listed {
                (before, began) = (self.question.version().to_owned(), Instant::now());
            }
            let has_worked = began.elapsed() >= SHORT_WATCH || self.question.version() != before;
            if self.question.is_listed && has_worked && !is_proven {
                is_proven = true;
                self.pauses.reset();
                self.feed.set_failure(T::PLURAL, None);
                self.own_node.iter().for_each(OwnNode::works);
            }
        }
        match (self.question.is_listed, is_proven) {
            (false, _) => {
                Err(Failure::of_text("a streamed list ended before it was complete".to_owned()).into())
            }
            (true, false) => Err(Failure::of_text("a watch ended at once".to_owned()).into()),
            (true, true) => Ok(()),
        }
    }

    async fn begin_list(&mut self) -> Result<(), Closed> {
        self.unreadable.clear();
        self.send(vec![T::EVENT(Event::Init)]).await
    }

    /// Passes messages on, up to a failure.
    async fn take(
        &mut self,
        messages: impl IntoIterator<Item = Result<Message<T>, Failure>>,
    ) -> Result<(), End> {
        let (mut batch, mut failed) = (Batch::new(), None);
        for message in messages {
            match message {
                Ok(message) => batch.extend(self.event(message).map(T::EVENT)),
                Err(failure) => {
                    failed = Some(failure);
                    break;
                }
            }
        }
        self.send(batch).await?;
        failed.map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn event(&mut self, message: Message<T>) -> Option<Event<Box<T::Object>>> {
        match message {
            Message::Object(object) => {
                self.question.advance(object.meta().resource_version.clone());
                if self.has_unreadable && self.question.is_listed {
                    self.set_unreadable(key(object.meta()), None);
                }
                let object = Box::new(object.into_object());
                Some(if self.question.is_listed { Event::Apply(object) } else { Event::InitApply(object) })
            }
            Message::Unreadable(unreadable) => {
                self.question.advance(unreadable.meta.resource_version.clone());
                let (key, complaint) = (key(&unreadable.meta), complaint(T::Object::KIND, &unreadable));
                match self.question.is_listed {
                    true => self.set_unreadable(key, Some(complaint)),
                    false => drop(self.unreadable.insert(key, complaint)),
                }
                None
            }
            Message::Deleted(meta) => {
                self.question.advance(meta.resource_version.clone());
                if self.has_unreadable {
                    self.set_unreadable(key(&meta), None);
                }
                Some(Event::Delete(Box::new(T::named(meta))))
            }
            Message::Bookmark { version, ends_list } => {
                let is_complete = ends_list && !self.question.is_listed;
                self.question.is_listed |= ends_list;
                self.question.advance(version);
                is_complete.then(|| self.end_list())
            }
            Message::Cut => None,
        }
    }

    fn end_list(&mut self) -> Event<Box<T::Object>> {
        self.question.is_quorum = false;
        let unreadable = std::mem::take(&mut self.unreadable);
        self.has_unreadable = !unreadable.is_empty();
        self.feed.set_failure(T::PLURAL, None);
        self.feed.change(T::PLURAL, |problems| problems.unreadable = unreadable);
        Event::InitDone
    }

    /// Notes that an object of a watch cannot be parsed, or (`None`) that it can be again or is gone.
    fn set_unreadable(&mut self, key: (String, String), complaint: Option<Complaint>) {
        self.feed.change(T::PLURAL, |problems| {
            match complaint {
                Some(complaint) => problems.unreadable.insert(key, complaint),
                None => problems.unreadable.remove(&key),
            };
            self.has_unreadable = !problems.unreadable.is_empty();
        });
    }

    async fn send(&mut self, batch: Batch) -> Result<(), Closed> {
        if let Some(node) = &mut self.own_node {
            node.observe(&batch);
        }
        self.feed.send(batch).await
    }

    /// Reports the failure, changes the request if that helps, and waits.
    async fn outlive(&mut self, failure: &Failure) -> Result<(), Closed> {
        match &mut self.own_node {
            Some(node) if matches!(failure.code, Some(401 | 403 | 404)) => {
                let empty_list = node.refused(&failure.text);
                self.feed.set_failure(T::PLURAL, None);
                self.feed.send(empty_list).await?;
            }
            _ => self.feed.set_failure(T::PLURAL, Some(failure.text.clone())),
        }
        let is_refusal = self.question.change_after(failure);
        let pause = self.pauses.after(failure, is_refusal);
        tracing::debug!(
            kind = T::PLURAL,
            error = failure.text,
            ?pause,
            "a request to the Kubernetes API failed"
        );
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.feed.closed() => Err(Closed),
        }
    }
}
