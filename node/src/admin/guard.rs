//! Stands before every service of the node port: learns who asks, and turns away who may not.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};

use super::caller::{Caller, Role, Source};
use super::rights::{check, needs, unproven};
use super::strangers::Members;
use crate::control::Sender;

/// How a node asks whether it is a member still: one that was removed hears of it from nobody else, so this is answered.
const PROBE: &str = "/tandem.raft.v1.Formation/Probe";

/// What a port asks of those who reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Nothing: whoever reaches it may do everything. Loopback only.
    Open,
    /// A [`Caller`] that the connection proved.
    Proven,
}

/// A service behind the guard.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    port: Port,
    members: Members,
}

impl<S> Guarded<S> {
    /// Lets through to `inner` who may.
    pub fn new(inner: S, port: Port, members: Members) -> Self {
        Self { inner, port, members }
    }
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let members = |caller| if request.uri().path() == PROBE { Ok(caller) } else { self.members.check(caller) };
        match admitted(&request, self.port).and_then(members) {
            Ok(caller) => {
                if let Role::Proxy(id) | Role::Witness(id) = caller.role {
                    request.extensions_mut().insert(Sender(id));
                }
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}

fn admitted(request: &Request<Body>, port: Port) -> Result<Caller, Status> {
    let path = request.uri().path();
    let Some(caller) = caller(request, port) else {
        tracing::warn!(path, "refused: the caller shows no certificate");
        return Err(unproven());
    };
    let Some(needs) = needs(path) else {
        tracing::warn!(path, source = %caller.source, who = %caller, "refused: no such request");
        return Err(Status::unimplemented(format!("{path} is not known here")));
    };
    check(Some(&caller), path.rsplit('/').next().unwrap_or(path), needs)?;
    Ok(caller)
}

fn caller(request: &Request<Body>, port: Port) -> Option<Caller> {
    let known = request.extensions();
    if let Some(local) = known.get::<UdsConnectInfo>() {
        // Who may open the socket is the file system's to say: its mode is 0660. That makes whoever did an admin.
        let uid = local.peer_cred?.uid();
        return Some(Caller { name: format!("uid {uid}"), role: Role::Admin, source: Source::Socket });
    }
    match port {
        Port::Proven => known.get::<Caller>().cloned(),
        Port::Open => {
            let from = known.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr)?;
            Some(Caller::anyone(Source::Address(from)))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tonic::Code;

    fn ask(path: &str, caller: Option<Caller>) -> Request<Body> {
        let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        request
    }

    fn as_role(role: Role) -> Option<Caller> {
        Some(Caller { name: "x".into(), role, source: Source::Address(([10, 0, 0, 9], 4000).into()) })
    }

    #[test]
    fn a_port_that_asks_for_proof_lets_in_who_has_it_and_the_role() {
        let code = |path, caller| admitted(&ask(path, caller), Port::Proven).map_err(|s| s.code()).err();
        assert_eq!(code("/tandem.admin.v1.Admin/Change", None), Some(Code::Unauthenticated));
        assert_eq!(code("/tandem.admin.v1.Admin/Change", as_role(Role::Viewer)), Some(Code::PermissionDenied));
        assert_eq!(code("/tandem.admin.v1.Admin/Change", as_role(Role::Operator)), None);
        assert_eq!(code("/tandem.admin.v1.Admin/Change", as_role(Role::Witness(3))), Some(Code::PermissionDenied));
        assert_eq!(code("/tandem.raft.v1.Raft/Append", as_role(Role::Admin)), Some(Code::PermissionDenied));
        assert_eq!(code("/tandem.raft.v1.Raft/Append", as_role(Role::Proxy(1))), None);
        assert_eq!(code("/grpc.reflection.v1.ServerReflection/X", as_role(Role::Admin)), Some(Code::Unimplemented));
    }
}
