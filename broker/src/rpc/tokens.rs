use currant_proto::v1::{self as pb, token_service_server::TokenService};
use tonic::{Request, Response, Status};

use super::{Context, check, convert_token, status, status::Violations};
use crate::{
    domain::{TokenId, TokenSecret},
    pipeline::Created,
};

const LIST_MAX: u32 = 1000;

#[tonic::async_trait]
impl TokenService for Context {
    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let caller = self.caller(&request)?;
        let now = self.core.clock.database_micros();
        let new = convert_token::new_token(request.into_inner(), now)?;
        let created = self.core.create_token(&caller, &new).await;
        let Created { token, secret } = created.map_err(|error| status::of(&error))?;
        Ok(Response::new(pb::CreateTokenResponse {
            token: Some(convert_token::token(token)),
            secret: secret.as_ref().map(TokenSecret::expose).unwrap_or_default(),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::ListTokensResponse>, Status> {
        let pb::ListTokensRequest { after_token_id, limit } = request.into_inner();
        let mut violations = Violations::default();
        if let Err(problem) = check::count(limit as usize, 0, LIST_MAX as usize) {
            violations.add("limit", problem);
        }
        violations.into_result()?;
        let limit = if limit == 0 { LIST_MAX } else { limit };
        let tokens = self.core.list_tokens(TokenId(after_token_id), limit as usize).await;
        let tokens = tokens.map_err(|error| status::of(&error))?;
        let tokens = tokens.into_iter().map(convert_token::token).collect();
        Ok(Response::new(pb::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let caller = self.caller(&request)?;
        let pb::RevokeTokenRequest { token_id } = request.into_inner();
        let known = self.core.revoke_token(&caller, TokenId(token_id)).await;
        if !known.map_err(|error| status::of(&error))? {
            return Err(status::not_found("token", token_id.to_string()));
        }
        Ok(Response::new(pb::RevokeTokenResponse {}))
    }
}
