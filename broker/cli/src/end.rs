use std::{error::Error as _, io, process::ExitCode};

use currant_worker_sdk::Error;
use tonic::Code;

/// How a command ended that could be carried out. Of several the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Done,
    NotFound,
    /// Not all was done.
    Refused,
}

impl End {
    pub(crate) fn code(self) -> ExitCode {
        match self {
            End::Done => ExitCode::SUCCESS,
            End::NotFound => ExitCode::from(3),
            End::Refused => ExitCode::from(4),
        }
    }
}

/// Why a command couldn't be carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    Call(Error),
    /// Something that can't be was asked for.
    Usage(String),
    /// The system didn't do this.
    System(String, io::Error),
    /// Nobody reads what is printed.
    Unread,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Call(error)
    }
}

impl Failure {
    pub(crate) fn printing(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::Unread;
        }
        Failure::System("printing".to_owned(), error)
    }

    /// Says what it was, and answers the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Some(message) = self.message() {
            eprintln!("error: {message}");
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Unread => 0,
            Failure::Usage(_)
            | Failure::Call(
                Error::InvalidArgument { .. }
                | Error::Endpoint { .. }
                | Error::Token
                | Error::WithoutTls { .. },
            ) => 2,
            Failure::Call(Error::NotFound { .. }) => 3,
            Failure::Call(Error::AlreadyExists { .. }) => 4,
            Failure::Call(Error::Refused(status))
                if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) =>
            {
                5
            }
            Failure::Call(_) | Failure::System(..) => 1,
        }
    }

    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Failure::Unread => None,
            Failure::Usage(message) => Some(message.clone()),
            Failure::System(what, error) => Some(format!("{what}: {error}")),
            Failure::Call(Error::Refused(status)) => Some(status.message().to_owned()),
            Failure::Call(Error::GaveUp { after, last: Some(status) }) => {
                Some(format!("gave up after {after:?}: {}", status.message()))
            }
            Failure::Call(error) => {
                let causes = std::iter::successors(error.source(), |&cause| cause.source());
                let mut causes: Vec<String> = causes.map(|cause| cause.to_string()).collect();
                // Wrapped errors repeat each other.
                causes.dedup();
                causes.insert(0, error.to_string());
                Some(causes.join("\n  caused by: "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn each_failure_has_its_code_and_the_brokers_words() {
        let refused = |status: Status| Failure::from(Error::from(status));
        let cases = [
            (refused(Status::unauthenticated("no token")), 5, "no token"),
            (refused(Status::permission_denied("not yours")), 5, "not yours"),
            (refused(Status::not_found("there is no job 1")), 3, "not found: there is no job 1"),
            (refused(Status::already_exists("one is in the way")), 4, "one is in the way"),
            (refused(Status::invalid_argument("bad")), 2, "bad"),
            (refused(Status::internal("broken")), 1, "broken"),
            (Failure::Usage("no".to_owned()), 2, "no"),
        ];
        for (failure, code, message) in cases {
            assert_eq!((failure.code(), failure.message().as_deref()), (code, Some(message)));
        }
        assert_eq!((Failure::Unread.code(), Failure::Unread.message()), (0, None));
        assert!(End::Refused > End::NotFound && End::NotFound > End::Done);
    }
}
