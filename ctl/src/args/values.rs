//! How one value of a command line is read: what is no such value is told with what to write instead.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tandem_proto::model::HashOn;

use super::Weighted;

pub(super) fn words<T: Copy + Send + Sync + 'static>(
    known: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(known.iter().map(|(word, _)| *word))
        .try_map(|given| known.iter().find(|(word, _)| *word == given).map(|(_, meant)| *meant).ok_or("unknown word"))
}

pub(super) fn hash_on(given: &str) -> Result<HashOn, String> {
    given.parse().map_err(|why| format!("this {why}; use one of: {}", HashOn::FORMS))
}

/// What a file says; "" says nothing.
pub(super) fn text_file(given: &str) -> Result<String, String> {
    if given.is_empty() {
        return Ok(String::new());
    }
    std::fs::read_to_string(given).map_err(|e| format!("it cannot be read: {e}"))
}

pub(super) fn seconds(given: &str) -> Result<u32, &'static str> {
    let time = humantime::parse_duration(given).ok().filter(|time| time.subsec_nanos() == 0);
    let seconds = time.and_then(|time| u32::try_from(time.as_secs()).ok());
    seconds.ok_or("this is no length of time in whole seconds; write it like 90s or 8h")
}

pub(super) fn time(given: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(given)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or("this is not a length of time; write it like 500ms or 2s")
}

/// "off" is no time at all.
pub(super) fn time_or_off(given: &str) -> Result<Duration, &'static str> {
    if given == "off" {
        return Ok(Duration::ZERO);
    }
    time(given).map_err(|_| "this is neither off nor a length of time; write it like 500ms or 2s")
}

pub(super) fn node(given: &str) -> Result<String, &'static str> {
    let given = given.trim();
    if given.strip_prefix("unix:").is_some_and(|path| path.starts_with('/')) {
        return Ok(given.to_owned());
    }
    let mend =
        "write the node's host and port, like 10.0.0.1:7440, or its socket, like unix:/var/lib/tandem/admin.sock";
    let (host, port) = given.rsplit_once(':').ok_or(mend)?;
    let known_port = port.parse::<u16>().is_ok_and(|p| p > 0);
    let uri = format!("http://{given}").parse::<tonic::codegen::http::Uri>();
    if host.is_empty() || !known_port || uri.is_err() { Err(mend) } else { Ok(given.to_owned()) }
}

pub(super) fn weighted(given: &str) -> Result<Weighted, &'static str> {
    let Some((address, weight)) = given.split_once('*') else {
        return Ok(Weighted { address: given.to_owned(), weight: None });
    };
    match weight.parse() {
        Ok(weight @ 1..=1000) => Ok(Weighted { address: address.to_owned(), weight: Some(weight) }),
        _ => Err("the weight after * is a number from 1 to 1000, like 10.0.0.11:9000*50"),
    }
}
