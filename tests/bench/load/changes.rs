//! Config changes at a pace, while others work.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{AddBackend, Backend, RemoveBackend};
use tandem_tests::admin::Admin;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::contender::UPSTREAM;

/// A task that changes the config until this is dropped.
pub(super) struct Changes {
    task: JoinHandle<()>,
    told: Rc<Told>,
}

#[derive(Default)]
struct Told {
    acknowledged: Cell<u32>,
    failure: RefCell<Option<anyhow::Error>>,
}

impl Changes {
    /// Adds and removes backends that nobody is sent to, so many of both together a second. Inside a `LocalSet`.
    ///
    /// # Errors
    /// Never in practice.
    pub(super) fn start(admin: SocketAddr, per_second: u32) -> anyhow::Result<Self> {
        let admin = Rc::new(Admin::new([admin])?);
        let told = Rc::new(Told::default());
        let task = tokio::task::spawn_local(pace(admin, Duration::from_secs(2) / per_second, Rc::clone(&told)));
        Ok(Self { task, told })
    }

    /// Acknowledged so far.
    ///
    /// # Errors
    /// One was not.
    pub(super) fn acknowledged(&self) -> anyhow::Result<u32> {
        match self.told.failure.take() {
            Some(e) => Err(e.context("a config change")),
            None => Ok(self.told.acknowledged.get()),
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pace(admin: Rc<Admin>, every: Duration, told: Rc<Told>) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0.. {
        tick.tick().await;
        let (admin, told) = (Rc::clone(&admin), Rc::clone(&told));
        tokio::task::spawn_local(async move {
            if let Err(e) = there_and_gone(&admin, n, &told).await {
                told.failure.replace(Some(e));
            }
        });
    }
}

async fn there_and_gone(admin: &Admin, n: u16, told: &Told) -> anyhow::Result<()> {
    let address = format!("127.9.9.9:{}", n.checked_add(1).context("far more changes than ordered")?);
    let backend = Some(Backend { address: address.clone(), ..Backend::default() });
    admin.change(Edit::AddBackend(AddBackend { upstream: UPSTREAM.to_owned(), backend })).await?;
    told.acknowledged.set(told.acknowledged.get() + 1);
    admin.change(Edit::RemoveBackend(RemoveBackend { upstream: UPSTREAM.to_owned(), address })).await?;
    told.acknowledged.set(told.acknowledged.get() + 1);
    Ok(())
}
