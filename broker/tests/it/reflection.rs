//! A worker that knows nothing but the address: it asks the broker for the contract.

use http::uri::PathAndQuery;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, Value, prost::Message,
    prost_types::FileDescriptorProto,
};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{Broker, Database, PATIENCE};

/// Asks for the file that has the symbol, and for all that it imports.
async fn contract(channel: Channel, symbols: &[&str]) -> DescriptorPool {
    let mut client = ServerReflectionClient::new(channel);
    let symbol = |symbol: &&str| MessageRequest::FileContainingSymbol((*symbol).to_owned());
    let mut wanted: Vec<MessageRequest> = symbols.iter().map(symbol).collect();
    let mut files: Vec<FileDescriptorProto> = Vec::new();
    while let Some(message) = wanted.pop() {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let request = tokio_stream::once(request);
        let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::FileDescriptorResponse(answer) = answer else { panic!("{answer:?}") };
        for file in answer.file_descriptor_proto {
            let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
            if files.iter().all(|known| known.name != file.name) {
                wanted.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
                files.push(file);
            }
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files).unwrap();
    pool
}

/// Encodes what it is given and decodes messages of this type.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A client of the services in the contract.
struct Client {
    pool: DescriptorPool,
    grpc: Grpc<Channel>,
}

impl Client {
    /// A message by its short name with these fields.
    fn message(&self, name: &str, fields: Vec<(&str, Value)>) -> Value {
        let name = format!("currant.v1.{name}");
        let mut message = DynamicMessage::new(self.pool.get_message_by_name(&name).unwrap());
        for (field, value) in fields {
            message.try_set_field_by_name(field, value).unwrap();
        }
        Value::Message(message)
    }

    /// Path, codec and request of a method, such as `JobService/Get`.
    fn call(
        &self,
        method: &str,
        fields: Vec<(&str, Value)>,
    ) -> (PathAndQuery, Dynamic, Request<DynamicMessage>) {
        let (service, name) = method.split_once('/').unwrap();
        let service = self.pool.get_service_by_name(&format!("currant.v1.{service}")).unwrap();
        let method = service.methods().find(|method| method.name() == name).unwrap();
        let Value::Message(request) = self.message(method.input().name(), fields) else {
            unreachable!()
        };
        let path = format!("/{}/{name}", service.full_name());
        (path.parse().unwrap(), Dynamic(method.output()), Request::new(request))
    }

    async fn unary(&mut self, method: &str, fields: Vec<(&str, Value)>) -> DynamicMessage {
        let (path, codec, request) = self.call(method, fields);
        self.grpc.ready().await.unwrap();
        self.grpc.unary(request, path, codec).await.unwrap().into_inner()
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn field(message: &DynamicMessage, path: &[&str]) -> Value {
    let value = message.get_field_by_name(path[0]).unwrap().into_owned();
    match &path[1..] {
        [] => value,
        rest => field(value.as_message().unwrap(), rest),
    }
}

#[tokio::test]
async fn a_worker_by_reflection_alone_runs_a_job() {
    let database = Database::fresh().await;
    let broker = Broker::start(&database).await;
    let channel = broker.channel();
    let services = ["currant.v1.JobService", "currant.v1.WorkerService"];
    let pool = contract(channel.clone(), &services).await;
    let mut client = Client { pool, grpc: Grpc::new(channel) };

    let job = vec![
        ("queue", text("emails")),
        ("kind", text("greet")),
        ("payload", Value::Bytes("hello".into())),
    ];
    let job = client.message("NewJob", job);
    let stored = client.unary("JobService/Enqueue", vec![("jobs", Value::List(vec![job]))]).await;
    let id = field(&stored, &["job_ids"]).as_list().unwrap()[0].clone();

    let (path, codec, request) = client.call(
        "WorkerService/Subscribe",
        vec![("queues", Value::List(vec![text("emails")])), ("max_in_flight", Value::U32(1))],
    );
    client.grpc.ready().await.unwrap();
    let stream = client.grpc.server_streaming(request, path, codec).await.unwrap();
    let mut stream = stream.into_inner();
    let mut next = async |kind: &str| -> DynamicMessage {
        let wait = async {
            loop {
                let message = stream.message().await.unwrap().expect("the stream ended");
                if message.has_field_by_name(kind) {
                    return field(&message, &[kind]).as_message().unwrap().clone();
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect(kind)
    };
    let welcome = next("welcome").await;
    let session = field(&welcome, &["session_id"]);
    assert_ne!(field(&welcome, &["heartbeat_interval", "seconds"]), Value::I64(0));
    let assignments = next("assignments").await;
    let jobs = field(&assignments, &["jobs"]);
    let job = jobs.as_list().unwrap()[0].as_message().unwrap();
    assert_eq!(field(job, &["job_id"]), id);
    assert_eq!(field(job, &["kind"]), text("greet"));
    assert_eq!(field(job, &["payload"]), Value::Bytes("hello".into()));

    let completion = vec![
        ("job_id", id.clone()),
        ("attempt", field(job, &["attempt"])),
        ("succeeded", client.message("Succeeded", vec![("result", Value::Bytes("hi".into()))])),
    ];
    let completion = client.message("Completion", completion);
    let request = vec![
        ("session_id", session),
        ("received_seq", field(&assignments, &["seq"])),
        ("completions", Value::List(vec![completion])),
    ];
    let answer = client.unary("WorkerService/Complete", request).await;
    let verdicts = field(&answer, &["verdicts"]);
    let verdict = verdicts.as_list().unwrap()[0].as_enum_number().unwrap();
    let names = client.pool.get_enum_by_name("currant.v1.Verdict").unwrap();
    assert_eq!(names.get_value(verdict).unwrap().name(), "VERDICT_APPLIED");

    let stored = client.unary("JobService/Get", vec![("job_id", id)]).await;
    assert_eq!(field(&stored, &["job", "result"]), Value::Bytes("hi".into()));
}
