//! Who is believed: the cluster's authorities, and the tokens that let machines join. Pure: times are arguments.

use std::collections::BTreeMap;

use tandem_proto::Problems;
use tandem_proto::papers::{fingerprint, validity};
use tandem_proto::trust::v1 as pb;
use tandem_proto::trust::v1::change::Change;

use super::standing::NodeId;

/// More would be a mistake, or an attack by somebody who may make them.
const MOST_TOKENS: usize = 100;
/// After its use a token answers the same key again for so long, in ms: the first answer may have been lost.
const SECOND_ASKING: u64 = 60_000;

/// What the log says of those who are believed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trust {
    /// Whose word is believed, oldest first.
    pub authorities: Vec<Authority>,
    /// Fingerprint of the one that signs; empty before the cluster is founded.
    pub signer: String,
    /// By id.
    pub tokens: BTreeMap<String, pb::Token>,
}

/// One that signs certificates, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// SHA-256 of its public key, in hex.
    pub fingerprint: String,
    /// Its certificate.
    pub certificate_pem: String,
    /// Its private key, sealed by the nodes' secret.
    pub sealed_key: Vec<u8>,
}

fn one(path: &str, value: &str, why: &str, mend: &str) -> Problems {
    Problems::one(path, value, why, mend)
}

impl Authority {
    /// Until when it may sign, in seconds since 1970; 0 if that cannot be read.
    pub fn not_after(&self) -> i64 {
        pem::parse(&self.certificate_pem).ok().and_then(|c| validity(c.contents())).map_or(0, |(_, until)| until)
    }

    fn read(from: &pb::Authority) -> Result<Self, Problems> {
        let certificate = pem::parse(&from.certificate_pem).ok();
        let fingerprint = certificate.and_then(|c| fingerprint(c.contents()));
        match fingerprint {
            Some(fingerprint) if !from.sealed_key.is_empty() => Ok(Self {
                fingerprint,
                certificate_pem: from.certificate_pem.clone(),
                sealed_key: from.sealed_key.clone(),
            }),
            _ => Err(one("authority", "", "is no certificate with a sealed key", "upgrade tandemd on all nodes")),
        }
    }
}

/// Does this token let anybody in at `now`?
pub fn open(token: &pb::Token, now: u64) -> bool {
    match &token.used {
        None => now < token.expires_at,
        Some(used) => now < used.at.saturating_add(SECOND_ASKING),
    }
}

impl Trust {
    /// Read back from a snapshot; what cannot be read was never written.
    pub fn restored(from: &pb::Trust) -> Self {
        Self {
            authorities: from.authorities.iter().filter_map(|a| Authority::read(a).ok()).collect(),
            signer: from.signer.clone(),
            tokens: from.tokens.iter().map(|t| (t.id.clone(), t.clone())).collect(),
        }
    }

    /// For a snapshot.
    pub fn written(&self) -> pb::Trust {
        let authority = |a: &Authority| pb::Authority {
            certificate_pem: a.certificate_pem.clone(),
            sealed_key: a.sealed_key.clone(),
        };
        pb::Trust {
            authorities: self.authorities.iter().map(authority).collect(),
            signer: self.signer.clone(),
            tokens: self.tokens.values().cloned().collect(),
        }
    }

    /// The authority that signs.
    pub fn signing(&self) -> Option<&Authority> {
        self.authorities.iter().find(|a| a.fingerprint == self.signer)
    }

    /// Must the join port be open at `now`?
    pub fn awaits(&self, now: u64) -> bool {
        self.tokens.values().any(|t| open(t, now))
    }

    /// What it is after `change`, taken at `now`; `node` is the number that a newcomer gets by the same entry.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn changed(&self, change: &pb::Change, now: u64, node: NodeId) -> Result<Self, Problems> {
        let mut next = self.clone();
        // Nobody asks for what expired an hour ago.
        next.tokens.retain(|_, t| open(t, now) || now < t.expires_at.saturating_add(3_600_000));
        match change.change.as_ref() {
            None => return Err(one("trust", "", "is a change of an unknown kind", "upgrade tandemd on all nodes")),
            Some(Change::Found(found)) => next.found(found)?,
            Some(Change::AddToken(token)) => next.add(token.clone())?,
            Some(Change::RemoveToken(id)) => {
                next.tokens.remove(id).ok_or_else(|| unknown(id))?;
            }
            Some(Change::Redeem(redeem)) => next.redeem(redeem, now, node)?,
            Some(Change::AddAuthority(authority)) => {
                if next.authorities.len() > 1 {
                    let mend = "end that first: tandemctl ca retire";
                    return Err(one("ca", "", "is being rotated already: two are believed", mend));
                }
                next.authorities.push(Authority::read(authority)?);
            }
            Some(Change::SignWith(fingerprint)) => {
                next.known(fingerprint)?;
                next.signer.clone_from(fingerprint);
            }
            Some(Change::RemoveAuthority(fingerprint)) => {
                next.known(fingerprint)?;
                if *fingerprint == next.signer {
                    return Err(one("ca", fingerprint, "signs", "rotate first: tandemctl ca rotate"));
                }
                next.authorities.retain(|a| a.fingerprint != *fingerprint);
            }
        }
        Ok(next)
    }

    fn known(&self, fingerprint: &str) -> Result<(), Problems> {
        if self.authorities.iter().any(|a| a.fingerprint == fingerprint) {
            return Ok(());
        }
        Err(one("ca", fingerprint, "is not known here", "see: tandemctl ca ls"))
    }

    fn found(&mut self, found: &pb::Found) -> Result<(), Problems> {
        if !self.authorities.is_empty() {
            return Err(one("trust", "", "is founded already", "nothing needs to be done"));
        }
        let authority = Authority::read(&found.authority.clone().unwrap_or_default())?;
        self.signer.clone_from(&authority.fingerprint);
        self.authorities.push(authority);
        found.tokens.iter().try_for_each(|token| self.add(token.clone()))
    }

    fn add(&mut self, token: pb::Token) -> Result<(), Problems> {
        if self.signer.is_empty() {
            let mend = "make a cluster with certificates: tandemd init --help";
            return Err(one("token", "", "is of no use here: this cluster has no authority to sign with", mend));
        }
        if self.tokens.len() >= MOST_TOKENS {
            let mend = "remove some: tandemctl token rm ID";
            return Err(one("token", &token.id, "would be one of more than 100", mend));
        }
        if token.id.is_empty() || token.secret_hash.len() != 32 || self.tokens.contains_key(&token.id) {
            return Err(one("token", &token.id, "is not whole, or not new", "make another one"));
        }
        self.tokens.insert(token.id.clone(), token);
        Ok(())
    }

    fn redeem(&mut self, redeem: &pb::Redeem, now: u64, node: NodeId) -> Result<(), Problems> {
        let token = self.tokens.get_mut(&redeem.token).ok_or_else(|| unknown(&redeem.token))?;
        let mend = "make a new one: tandemctl token create";
        if token.used.is_some() {
            return Err(one("token", &token.id, "was used before", mend));
        }
        if !open(token, now) {
            return Err(one("token", &token.id, "has expired", mend));
        }
        token.used = Some(pb::Used { node, key_hash: redeem.key_hash.clone(), at: now });
        Ok(())
    }
}

fn unknown(id: &str) -> Problems {
    one("token", id, "is not known here: it was removed, or used long ago", "make a new one: tandemctl token create")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn authority(name: &str) -> pb::Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        pb::Authority { certificate_pem: certificate.pem(), sealed_key: vec![1] }
    }

    fn token(id: &str, expires_at: u64) -> pb::Token {
        pb::Token { id: id.into(), secret_hash: vec![7; 32], expires_at, ..Default::default() }
    }

    fn change(change: Change) -> pb::Change {
        pb::Change { change: Some(change) }
    }

    fn founded() -> Trust {
        let found = pb::Found { authority: Some(authority("one")), tokens: vec![token("t", HOUR)] };
        Trust::default().changed(&change(Change::Found(found)), 0, 0).unwrap()
    }

    fn redeem(id: &str, key: u8) -> pb::Change {
        change(Change::Redeem(pb::Redeem { token: id.into(), key_hash: vec![key] }))
    }

    #[test]
    fn a_token_lets_one_in_and_then_nobody() {
        let trust = founded();
        assert!(trust.awaits(HOUR - 1) && !trust.awaits(HOUR));
        let used = trust.changed(&redeem("t", 1), 10, 5).unwrap();
        assert_eq!(used.tokens["t"].used.as_ref().unwrap().node, 5);
        let why = used.changed(&redeem("t", 1), 11, 6).unwrap_err().to_string();
        assert!(why.contains("was used before"), "{why}");
        assert!(used.awaits(11), "its answer may have been lost");
        assert!(!used.awaits(10 + SECOND_ASKING));
    }

    #[test]
    fn a_token_that_expired_or_was_removed_lets_nobody_in() {
        let why = founded().changed(&redeem("t", 1), HOUR, 5).unwrap_err().to_string();
        assert!(why.contains("has expired"), "{why}");
        let without = founded().changed(&change(Change::RemoveToken("t".into())), 1, 0).unwrap();
        assert!(!without.awaits(1));
        assert!(without.changed(&redeem("t", 1), 2, 5).is_err());
        let later = founded().changed(&change(Change::AddToken(token("u", 9 * HOUR))), 3 * HOUR, 0).unwrap();
        assert_eq!(later.tokens.keys().collect::<Vec<_>>(), ["u"], "what expired long ago is forgotten");
    }

    #[test]
    fn an_authority_is_rotated_in_three_steps_and_the_one_that_signs_stays() {
        let trust = founded();
        let old = trust.signer.clone();
        let both = trust.changed(&change(Change::AddAuthority(authority("two"))), 1, 0).unwrap();
        assert_eq!((both.authorities.len(), &both.signer), (2, &old), "the new one is believed before it signs");
        assert!(both.changed(&change(Change::AddAuthority(authority("three"))), 2, 0).is_err());
        let new = both.authorities[1].fingerprint.clone();
        assert!(both.changed(&change(Change::RemoveAuthority(old.clone())), 2, 0).is_err(), "it signs");
        let turned = both.changed(&change(Change::SignWith(new.clone())), 2, 0).unwrap();
        let done = turned.changed(&change(Change::RemoveAuthority(old.clone())), 3, 0).unwrap();
        assert_eq!((done.signing().unwrap().fingerprint.as_str(), done.authorities.len()), (new.as_str(), 1));
        assert!(done.changed(&change(Change::SignWith(old)), 4, 0).is_err(), "it is gone");
    }

    #[test]
    fn a_cluster_is_founded_once_and_comes_back_from_a_snapshot_as_it_was() {
        let trust = founded().changed(&redeem("t", 1), 10, 5).unwrap();
        let again = pb::Found { authority: Some(authority("other")), tokens: Vec::new() };
        assert!(trust.changed(&change(Change::Found(again)), 1, 0).is_err());
        assert_eq!(Trust::restored(&trust.written()), trust);
        assert_eq!(Trust::restored(&Trust::default().written()), Trust::default());
        assert!(trust.changed(&pb::Change::default(), 1, 0).is_err(), "a kind of change from the future is refused");
    }
}
