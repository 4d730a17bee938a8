//! The same calls as JSON over HTTP/1.1: for browsers, and for whoever has no gRPC. Nothing is known here
//! of any single call: requests and answers are turned by the contract's own description, in the JSON form
//! that Protocol Buffers have, and go through the same doors as those of gRPC.
//!
//! `POST /api/currant.v1.QueueService/Stats` with a JSON body and `content-type: application/json`. A call
//! that answers with a stream answers with server-sent events, a message each, and ends with an event `end`
//! or `error`.

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, State},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, Limited};
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
    prost::Message,
};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{ServiceExt, util::BoxCloneSyncService};

use super::{access::AccessLayer, json_values::has_more, status};
use crate::{
    pipeline::{Core, Room, Share},
    port::Peer,
};

/// All calls of the port, with all that stands before them.
pub(super) type Calls = BoxCloneSyncService<
    http::Request<tonic::body::Body>,
    http::Response<tonic::body::Body>,
    Infallible,
>;

#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) calls: Calls,
    /// Before a body is read: no stranger's is.
    pub(super) access: AccessLayer,
    pub(super) core: Arc<Core>,
    pub(super) message_bytes_max: usize,
}

/// Payloads are a third longer in JSON.
const JSON_FACTOR: usize = 2;

/// Of a message's largest size, for each value of a JSON body: less than 1 KiB is made of one, so that a body
/// takes 32 times that size at most, as messages do.
const BYTES_PER_VALUE: usize = 32;

static CONTRACT: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(currant_proto::DESCRIPTORS).ok());

/// The routes; for the HTTP port.
pub(super) fn routes(gateway: Gateway) -> Router {
    Router::new().route("/api/{service}/{method}", post(answer)).with_state(gateway)
}

async fn answer(
    State(gateway): State<Gateway>,
    Path((service, method)): Path<(String, String)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match gateway.call(&service, &method, peer, &headers, body).await {
        Ok(response) => response,
        Err(status) => refusal(&status),
    }
}

impl Gateway {
    async fn call(
        self,
        service: &str,
        method: &str,
        peer: Peer,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Status> {
        self.check_origin(headers)?;
        let method = find(service, method)
            .ok_or_else(|| Status::unimplemented(format!("there is no call {service}/{method}")))?;
        if method.is_client_streaming() {
            return Err(Status::unimplemented("a stream of requests needs gRPC"));
        }
        let mut request = http::Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = format!("/{}/{}", method.parent_service().full_name(), method.name())
            .parse::<Uri>()
            .map_err(|_| Status::internal("the call has no path"))?;
        request.extensions_mut().insert(peer);
        let to = request.headers_mut();
        to.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(token) = headers.get(AUTHORIZATION) {
            to.insert(AUTHORIZATION, token.clone());
        }
        self.access.check(&request)?;
        let message = {
            let mut room = self.core.room_to_read(Share::Half);
            let body = self.read(body, &mut room).await?;
            let most = self.message_bytes_max / BYTES_PER_VALUE;
            if has_more(&body, most) {
                let refusal = format!("a message has at most {most} values");
                return Err(Status::invalid_argument(refusal));
            }
            framed(&parse(method.input(), &body)?)
        };
        let request = request.map(|()| tonic::body::Body::new(http_body_util::Full::new(message)));
        let Ok(response) = self.calls.oneshot(request).await;
        let (parts, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&parts.headers)
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        if method.is_server_streaming() {
            return Ok(events(method.output(), body));
        }
        let collected = body.collect().await?;
        let ended = collected.trailers().and_then(Status::from_header_map);
        if let Some(status) = ended.filter(|status| status.code() != Code::Ok) {
            return Err(status);
        }
        let mut bytes = BytesMut::from(&*collected.to_bytes());
        let message = next_frame(&mut bytes).ok_or_else(|| Status::internal("no answer came"))?;
        let text = render(method.output(), message)?;
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
        Ok((headers, text).into_response())
    }

    async fn read(&self, body: Body, room: &mut Room) -> Result<Bytes, Status> {
        let most = self.message_bytes_max * JSON_FACTOR;
        let mut pieces = Limited::new(body, most).into_data_stream();
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| {
                Status::out_of_range(format!("the body is larger than {most} bytes, or broke off"))
            })?;
            room.take(piece.len()).map_err(|error| status::of(&error))?;
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Another site's page can make a browser send requests here, and a name that it owns may lead here.
    /// The first can't send JSON without being asked for leave, which nobody gives; nor can it hide where it
    /// comes from. Against the second there is the token, or else an address.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Status> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let is_json = text(CONTENT_TYPE).is_some_and(|kind| {
            kind.split(';').next().is_some_and(|it| it.trim() == "application/json")
        });
        if !is_json {
            return Err(Status::invalid_argument("content-type: application/json is needed"));
        }
        let host = text(HOST).unwrap_or_default();
        let own = |origin: &str| origin.split_once("://").is_some_and(|(_, rest)| rest == host);
        if text(ORIGIN).is_some_and(|origin| !own(origin)) {
            return Err(Status::permission_denied("a page of another site may not call"));
        }
        // An address no other site can have taken.
        if !self.core.access.is_required() && !is_address(host) {
            return Err(Status::permission_denied(
                "without tokens (access.required) this port answers by an IP address or localhost only",
            ));
        }
        Ok(())
    }
}

/// Whether a host, with its port perhaps, is an IP address or localhost.
fn is_address(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

fn find(service: &str, method: &str) -> Option<MethodDescriptor> {
    let service = CONTRACT.as_ref()?.get_service_by_name(service)?;
    service.methods().find(|known| known.name() == method)
}

fn parse(kind: MessageDescriptor, body: &[u8]) -> Result<DynamicMessage, Status> {
    let wrong = |error: serde_json::Error| Status::invalid_argument(format!("the body: {error}"));
    if body.is_empty() {
        return Ok(DynamicMessage::new(kind));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let message = DynamicMessage::deserialize(kind, &mut json).map_err(wrong)?;
    json.end().map_err(wrong)?;
    Ok(message)
}

/// A message as it goes over the wire: not compressed, its length before it.
fn framed(message: &DynamicMessage) -> Bytes {
    let message = message.encode_to_vec();
    let mut bytes = BytesMut::with_capacity(message.len() + FRAME_HEAD);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message);
    bytes.freeze()
}

const FRAME_HEAD: usize = 5;

/// The first message, if all of it is there.
fn next_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let head = bytes.get(1..FRAME_HEAD)?;
    let length = head.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    if bytes.len() < FRAME_HEAD + length {
        return None;
    }
    bytes.advance(FRAME_HEAD);
    Some(bytes.split_to(length).freeze())
}

fn render(kind: MessageDescriptor, message: Bytes) -> Result<String, Status> {
    let failed = |_| Status::internal("the answer could not be read");
    let message = DynamicMessage::decode(kind, message).map_err(failed)?;
    let mut json = serde_json::Serializer::new(Vec::new());
    let all = SerializeOptions::new().skip_default_fields(false);
    let failed = |_| Status::internal("the answer could not be written");
    message.serialize_with_options(&mut json, &all).map_err(failed)?;
    String::from_utf8(json.into_inner())
        .map_err(|_| Status::internal("the answer could not be written"))
}

/// Each message is an event.
fn events(kind: MessageDescriptor, body: tonic::body::Body) -> Response {
    let state = Some((BodyStream::new(body), BytesMut::new()));
    let events = stream::unfold(state, move |state| {
        let kind = kind.clone();
        async move {
            let (mut frames, mut bytes) = state?;
            loop {
                if let Some(message) = next_frame(&mut bytes) {
                    let (event, more) = match render(kind, message) {
                        Ok(text) => (format!("data: {text}\n\n"), Some((frames, bytes))),
                        Err(status) => (last_event(&status), None),
                    };
                    return Some((Ok::<_, Infallible>(event), more));
                }
                let ended = match frames.next().await {
                    None => Status::ok(""),
                    Some(Err(status)) => status,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            bytes.extend_from_slice(&data);
                            continue;
                        }
                        Err(frame) => frame
                            .trailers_ref()
                            .and_then(Status::from_header_map)
                            .unwrap_or_else(|| Status::ok("")),
                    },
                };
                return Some((Ok(last_event(&ended)), None));
            }
        }
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(events)).into_response()
}

fn last_event(status: &Status) -> String {
    if status.code() == Code::Ok {
        return "event: end\ndata: {}\n\n".to_owned();
    }
    format!("event: error\ndata: {}\n\n", explained(status))
}

fn refusal(status: &Status) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (http_status(status.code()), headers, explained(status).to_string()).into_response()
}

/// The code, the message, and the details that a person or a page can use.
fn explained(status: &Status) -> Value {
    let details = status.get_error_details();
    let violations: Vec<Value> = details
        .bad_request()
        .into_iter()
        .flat_map(|request| &request.field_violations)
        .map(|wrong| json!({ "field": wrong.field, "description": wrong.description }))
        .collect();
    let retry = details.retry_info().and_then(|info| info.retry_delay);
    let reason = details.error_info().map(|info| &info.reason);
    json!({
        "code": code_name(status.code()),
        "message": status.message(),
        "violations": violations,
        "retryAfterMs": retry.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        "reason": reason,
    })
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
