//! A route as the proxy follows it: where it leads, and what it does on the way. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use http::uri::PathAndQuery;

use super::backend::authority;
use super::error::Error;
use super::rewrite::{Ops, Said, location, target};
use super::table::{Listener, Member, Upstream};
use crate::config::model::{self, Action, Frames, Name, NewHost, Redirect, Respond};

/// A route, ready to be followed.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) name: Name,
    pub(super) goal: Goal,
    given: Arc<model::Route>,
    request: Ops,
    response: Ops,
}

/// Where a route leads.
#[derive(Debug)]
pub(super) enum Goal {
    /// To a backend.
    Upstream(Arc<Upstream>),
    /// Elsewhere.
    Redirect(Redirect),
    /// Nowhere: this is the answer.
    Respond(Respond),
}

impl Route {
    /// `None` if its upstream is not there, which a checked config does not allow.
    pub(super) fn new(
        name: &Name,
        given: &Arc<model::Route>,
        upstreams: &BTreeMap<Name, Arc<Upstream>>,
    ) -> Option<Self> {
        let goal = match &given.action {
            Action::Upstream(name) => Goal::Upstream(Arc::clone(upstreams.get(name)?)),
            Action::Redirect(redirect) => Goal::Redirect(redirect.clone()),
            Action::Respond(respond) => Goal::Respond(respond.clone()),
        };
        Some(Self {
            name: name.clone(),
            goal,
            given: Arc::clone(given),
            request: Ops::new(&given.request_headers),
            response: Ops::new(&given.response_headers),
        })
    }
}

/// A request that a route has taken, as its client made it.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) route: Arc<Route>,
    pub(super) listener: Arc<Listener>,
    pub(super) client: IpAddr,
    /// As the client wrote it; empty if it wrote none (HTTP/1.0).
    pub(super) host: HeaderValue,
    /// What it asked for.
    pub(super) asked: PathAndQuery,
}

impl Taken {
    fn said(&self) -> Said<'_> {
        Said {
            client: self.client,
            host: &self.host,
            target: &self.asked,
            listener: self.listener.name.as_str(),
            route: self.route.name.as_str(),
        }
    }

    /// May the page behind a WebSocket handshake open one here?
    ///
    /// # Errors
    /// [`Error::Origin`].
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Error> {
        let host = self.host.to_str().unwrap_or_default();
        let admitted = self.route.given.origins.admit(headers, host);
        admitted.map_err(|why| Error::Origin { route: self.route.name.clone(), why })
    }

    /// How the frames of its sessions are looked after, if they are.
    pub(super) fn frames(&self) -> Option<Arc<Frames>> {
        self.route.given.frames.clone()
    }

    /// What a backend is asked for.
    ///
    /// # Errors
    /// [`Error::Request`] for a path that cannot be rewritten.
    pub(super) fn target(&self) -> Result<PathAndQuery, Error> {
        target(&self.route.given.rewrite.path, &self.route.given.matching.path, &self.asked)
    }

    /// Where the client is sent.
    ///
    /// # Errors
    /// [`Error::Request`] for a host or path that cannot be part of a URL.
    pub(super) fn location(&self, redirect: &Redirect) -> Result<HeaderValue, Error> {
        location(redirect, &self.said())
    }

    /// What a backend is told instead of the client's host.
    pub(super) fn new_host(&self, backend: &Member) -> Option<HeaderValue> {
        match &self.route.given.rewrite.host {
            NewHost::Same => None,
            NewHost::Backend => HeaderValue::try_from(authority(backend.host.as_deref(), backend.backend.address)).ok(),
            NewHost::Named(host) => Some(host.clone()),
        }
    }

    /// Changes a request's fields for a backend; they are otherwise ready.
    pub(super) fn change_request(&self, headers: &mut HeaderMap) {
        self.route.request.apply(headers, &self.said());
    }

    /// Changes an answer's fields; they are otherwise ready.
    pub(super) fn change_response(&self, headers: &mut HeaderMap) {
        self.route.response.apply(headers, &self.said());
    }
}
