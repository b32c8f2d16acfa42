//! What a change touched, as it was before: enough to take it back, and no more. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Address, Backend, Certificate, Config, Listener, Name, Route, Settings, Upstream, Vip};
use crate::Problems;
use crate::config::v1 as pb;

/// Things by name as they were; `None`: it was not there.
type Was<K, T> = BTreeMap<K, Option<T>>;

/// Makes a config the one it was before a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    pub(super) listeners: Was<Name, Listener>,
    pub(super) routes: Was<Name, Arc<Route>>,
    pub(super) upstreams: Was<Name, WasUpstream>,
    pub(super) vips: Was<Name, Vip>,
    pub(super) certificates: Was<Name, Arc<Certificate>>,
    pub(super) settings: Option<Settings>,
}

/// An upstream as it was. One may have thousands of backends, and a change seldom touches more than a few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WasUpstream {
    /// It is gone.
    Whole(Arc<Upstream>),
    /// Of one that is still there: all but its backends if that was otherwise, and the backends that were.
    Parts { own: Option<Arc<Upstream>>, backends: Was<Address, Backend> },
}

/// Something that a change touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// As in a problem: `upstreams.chat.backends.10.0.0.11:9000`.
    pub path: String,
    /// What became of it.
    pub what: What,
}

/// What became of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was not there before.
    Added,
    /// It is gone.
    Removed,
    /// It is otherwise.
    Changed,
}

impl What {
    pub(super) fn of<T, U>(before: Option<T>, after: Option<U>) -> Self {
        match (before, after) {
            (None, _) => Self::Added,
            (_, None) => Self::Removed,
            _ => Self::Changed,
        }
    }
}

impl From<&Touch> for pb::Touch {
    fn from(t: &Touch) -> Self {
        let what = match t.what {
            What::Added => pb::What::Added,
            What::Removed => pb::What::Removed,
            What::Changed => pb::What::Changed,
        };
        Self { path: t.path.clone(), what: what.into() }
    }
}

impl From<pb::Touch> for Touch {
    fn from(t: pb::Touch) -> Self {
        let what = match t.what() {
            pb::What::Added => What::Added,
            pb::What::Removed => What::Removed,
            pb::What::Changed | pb::What::Unspecified => What::Changed,
        };
        Self { path: t.path, what }
    }
}

impl Undo {
    /// What makes `before` of `after`.
    pub fn between(before: &Config, after: &Config) -> Self {
        let mut upstreams = Was::new();
        for (name, was) in unlike(&before.upstreams, &after.upstreams) {
            let was = match (was, after.upstreams.get(&name)) {
                (Some(was), Some(is)) => Some(WasUpstream::parts(&was, is)),
                (was, _) => was.map(WasUpstream::Whole),
            };
            upstreams.insert(name, was);
        }
        Self {
            listeners: unlike(&before.listeners, &after.listeners),
            routes: unlike(&before.routes, &after.routes),
            upstreams,
            vips: unlike(&before.vips, &after.vips),
            certificates: unlike(&before.certificates, &after.certificates),
            settings: (before.settings != after.settings).then(|| before.settings.clone()),
        }
    }

    /// Takes the change back that this was made of.
    pub fn apply(&self, config: &mut Config) {
        put_back(&mut config.listeners, &self.listeners);
        put_back(&mut config.routes, &self.routes);
        put_back(&mut config.vips, &self.vips);
        put_back(&mut config.certificates, &self.certificates);
        for (name, was) in &self.upstreams {
            match was {
                None => drop(config.upstreams.remove(name)),
                Some(WasUpstream::Whole(was)) => drop(config.upstreams.insert(name.clone(), Arc::clone(was))),
                Some(WasUpstream::Parts { own, backends }) => {
                    let Some(upstream) = config.upstreams.get_mut(name).map(Arc::make_mut) else { continue };
                    if let Some(own) = own {
                        let kept = std::mem::take(&mut upstream.backends);
                        *upstream = Upstream { backends: kept, ..(**own).clone() };
                    }
                    put_back(&mut upstream.backends, backends);
                }
            }
        }
        if let Some(settings) = &self.settings {
            config.settings.clone_from(settings);
        }
    }

    /// What the change touched, by kind and name; `after` is the config it led to.
    pub fn touched(&self, after: &Config) -> Vec<Touch> {
        let mut all = Vec::new();
        touch("listeners", &self.listeners, &after.listeners, &mut all);
        touch("routes", &self.routes, &after.routes, &mut all);
        for (name, was) in &self.upstreams {
            let (path, is) = (format!("upstreams.{name}"), after.upstreams.get(name));
            match (was, is) {
                (Some(WasUpstream::Parts { own, backends }), Some(is)) => {
                    if own.is_some() {
                        all.push(Touch { path: path.clone(), what: What::Changed });
                    }
                    touch(&format!("{path}.backends"), backends, &is.backends, &mut all);
                }
                _ => all.push(Touch { path, what: What::of(was.as_ref(), is) }),
            }
        }
        touch("vips", &self.vips, &after.vips, &mut all);
        touch("certificates", &self.certificates, &after.certificates, &mut all);
        if self.settings.is_some() {
            all.push(Touch { path: "settings".to_owned(), what: What::Changed });
        }
        all
    }

    /// As a message.
    pub fn message(&self) -> pb::Undo {
        let mut undo = pb::Undo::default();
        let mut was = pb::Config::default();
        split(&self.listeners, |n, l| was.listeners.push(l.message(n)), &mut undo.no_listeners);
        split(&self.routes, |n, r| was.routes.push(r.message(n)), &mut undo.no_routes);
        split(&self.vips, |n, v| was.vips.push(v.message(n)), &mut undo.no_vips);
        split(&self.certificates, |n, c| was.certificates.push(c.message(n)), &mut undo.no_certificates);
        let mut parts = Vec::new();
        let upstream = |name: &Name, u: &WasUpstream| match u {
            WasUpstream::Whole(u) => was.upstreams.push(u.message(name)),
            WasUpstream::Parts { own, backends } => {
                let mut part = pb::UndoUpstream { name: name.to_string(), ..Default::default() };
                part.own = own.as_ref().map(|own| own.message(name));
                split(backends, |address, b| part.backends.push(b.message(address)), &mut part.no_backends);
                parts.push(part);
            }
        };
        split(&self.upstreams, upstream, &mut undo.no_upstreams);
        was.settings = self.settings.as_ref().map(Settings::message);
        undo.upstreams = parts;
        undo.was = (was != pb::Config::default()).then_some(was);
        undo
    }
}

impl TryFrom<&pb::Undo> for Undo {
    type Error = Problems;

    fn try_from(given: &pb::Undo) -> Result<Self, Problems> {
        let none = pb::Config::default();
        let was = given.was.as_ref().unwrap_or(&none);
        let mut problems = Problems::default();
        let p = &mut problems;
        let mut undo = Self::default();
        for l in &was.listeners {
            join(&mut undo.listeners, &l.name, Listener::check("undo.listeners", l, p), p);
        }
        for r in &was.routes {
            join(&mut undo.routes, &r.name, Route::check("undo.routes", r, p).map(Arc::new), p);
        }
        for u in &was.upstreams {
            let whole = WasUpstream::Whole(Arc::new(Upstream::check("undo.upstreams", u, p)));
            join(&mut undo.upstreams, &u.name, Some(whole), p);
        }
        for v in &was.vips {
            join(&mut undo.vips, &v.name, Vip::check("undo.vips", v, p), p);
        }
        for c in &was.certificates {
            join(&mut undo.certificates, &c.name, Certificate::check("undo.certificates", c, p).map(Arc::new), p);
        }
        undo.settings = was.settings.as_ref().map(|s| Settings::default().merged(s, p));
        for u in &given.upstreams {
            let parts = WasUpstream::read(u, p);
            join(&mut undo.upstreams, &u.name, Some(parts), p);
        }
        absent(&mut undo.listeners, &given.no_listeners, p);
        absent(&mut undo.routes, &given.no_routes, p);
        absent(&mut undo.upstreams, &given.no_upstreams, p);
        absent(&mut undo.vips, &given.no_vips, p);
        absent(&mut undo.certificates, &given.no_certificates, p);
        problems.into_result().map(|()| undo)
    }
}

impl WasUpstream {
    fn parts(was: &Upstream, is: &Upstream) -> Self {
        let backends = unlike(&was.backends, &is.backends);
        // Only the backends are many: the rest is copied to be compared.
        let (own, now) = (was.without_backends(), is.without_backends());
        Self::Parts { own: (own != now).then(|| Arc::new(own)), backends }
    }

    fn read(given: &pb::UndoUpstream, problems: &mut Problems) -> Self {
        let path = "undo.upstreams";
        let own = given.own.as_ref().map(|own| Arc::new(Upstream::check(path, own, problems)));
        let mut backends = Was::new();
        for b in &given.backends {
            if let Some((address, backend)) = Backend::check(path, b, problems) {
                backends.insert(address, Some(backend));
            }
        }
        for address in &given.no_backends {
            if let Some(address) = Address::check(path.to_owned(), address, problems) {
                backends.insert(address, None);
            }
        }
        Self::Parts { own, backends }
    }
}

/// What `before` had otherwise than `after`. Both are in order, so one walk finds it; what they share is not looked into.
fn unlike<K: Ord + Clone, T: Clone + PartialEq>(before: &BTreeMap<K, T>, after: &BTreeMap<K, T>) -> Was<K, T> {
    let mut was = Was::new();
    let mut rest = after.iter().peekable();
    for (key, value) in before {
        while let Some((added, _)) = rest.next_if(|(other, _)| *other < key) {
            was.insert(added.clone(), None);
        }
        let same = match rest.peek() {
            Some((other, now)) if (*other).cmp(key) == Ordering::Equal => {
                let same = *now == value;
                rest.next();
                same
            }
            _ => false,
        };
        if !same {
            was.insert(key.clone(), Some(value.clone()));
        }
    }
    was.extend(rest.map(|(added, _)| (added.clone(), None)));
    was
}

fn put_back<K: Ord + Clone, T: Clone>(map: &mut BTreeMap<K, T>, was: &Was<K, T>) {
    for (key, value) in was {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

fn touch<K: Ord + ToString, T>(kind: &str, was: &Was<K, T>, after: &BTreeMap<K, T>, all: &mut Vec<Touch>) {
    for (key, value) in was {
        let what = What::of(value.as_ref(), after.get(key));
        all.push(Touch { path: format!("{kind}.{}", key.to_string()), what });
    }
}

fn split<K: ToString, T>(was: &Was<K, T>, mut there: impl FnMut(&K, &T), absent: &mut Vec<String>) {
    for (key, value) in was {
        match value {
            Some(value) => there(key, value),
            None => absent.push(key.to_string()),
        }
    }
}

fn join<T>(was: &mut Was<Name, T>, name: &str, value: Option<T>, problems: &mut Problems) {
    if let (Some(name), Some(value)) = (Name::check("undo", name, problems), value) {
        was.insert(name, Some(value));
    }
}

fn absent<T>(was: &mut Was<Name, T>, names: &[String], problems: &mut Problems) {
    was.extend(names.iter().filter_map(|name| Some((Name::check("undo", name, problems)?, None))));
}
