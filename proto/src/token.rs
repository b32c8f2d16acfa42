//! What lets one machine join: `TDM1.PIN.ID.SECRET`. Pure.
//!
//! PIN is the SHA-256 of the cluster authority's public key: whoever joins knows by it that it speaks to the right cluster
//! before it says the secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use zeroize::Zeroizing;

const PREFIX: &str = "TDM1";

/// A token as an operator carries it from one machine to another.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the authority's public key.
    pub pin: [u8; 32],
    /// Its name, which is no secret.
    pub id: String,
    /// 128 bits of chance.
    pub secret: Zeroizing<[u8; 16]>,
}

/// It is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no token; copy it whole, as `tandemd init` or `tandemctl token create` printed it: {PREFIX}.….….…")]
pub struct NoToken;

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, pin, id, secret] = *parts.as_slice() else { return Err(NoToken) };
        let bytes = |text: &str| BASE64.decode(text).map(Zeroizing::new).map_err(|_| NoToken);
        if id.is_empty() || id.len() > 32 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(NoToken);
        }
        let pin = bytes(pin)?.as_slice().try_into().map_err(|_| NoToken)?;
        let secret = Zeroizing::new(bytes(secret)?.as_slice().try_into().map_err(|_| NoToken)?);
        Ok(Self { pin, id: id.to_owned(), secret })
    }
}

/// The whole of it, secret included.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", BASE64.encode(self.pin), self.id, BASE64.encode(*self.secret))
    }
}

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_carried_whole_or_not_at_all() {
        let token = Token { pin: [7; 32], id: "k3x9".into(), secret: Zeroizing::new([9; 16]) };
        let text = token.to_string();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        assert_eq!(format!(" {text}\n").parse::<Token>().unwrap(), token, "a copied line may have space around it");
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<Token>().is_err(), "{}", &text[..cut]);
        }
        assert!(!format!("{token:?}").contains(&BASE64.encode([9; 16])));
    }
}
