//! `log`: what nodes log, shown or changed.

use serde_json::{Value, json};
use tandem_proto::admin::v1::LevelsRequest;

use super::words::or_dash;
use crate::client::Client;
use crate::output::{Doubt, Error, Told, table};

/// Shows the levels as they are now; `request` may change them first.
pub(super) async fn levels(client: &Client, request: &LevelsRequest) -> Result<Told, Error> {
    let doubt = if request.levels.is_empty() { Doubt::Nothing } else { Doubt::SeenBy("tandemctl log show") };
    let reply = client.levels(request).await.map_err(|e| Error::of(e, doubt))?;
    let rows = reply.nodes.iter().map(|n| vec![n.name.clone(), or_dash(n.levels.clone())]).collect();
    let notes = reply.nodes.iter().filter(|n| !n.error.is_empty());
    let notes = notes.map(|n| format!("{} could not be asked, and logs as before: {}", n.name, n.error)).collect();
    let one = |n: &tandem_proto::admin::v1::NodeLevels| {
        let error = (!n.error.is_empty()).then_some(&n.error);
        json!({ "node": n.name, "levels": (error.is_none()).then_some(&n.levels), "error": error })
    };
    let programs = json!({ "nodes": reply.nodes.iter().map(one).collect::<Vec<Value>>() });
    Ok(Told { people: table(&["NODE", "LEVELS"], rows), programs, notes })
}
