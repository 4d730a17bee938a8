use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::Broker;

impl Broker {
    /// What `/metrics` says of this metric, over all its labels; 0 if it isn't there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{'])
                .then(|| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        };
        answer.lines().filter_map(value).sum::<f64>()
    }
}
