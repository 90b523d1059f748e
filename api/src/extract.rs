//! The framework's extractors, with problem details for what they reject.

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, JsonRejection};
use axum::extract::{self, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::problem::{Kind, Problem};

/// Parameters of the query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let parsed = extract::Query::<T>::try_from_uri(&parts.uri);
        let extract::Query(query) =
            parsed.map_err(|error| Problem::new(Kind::BadParameter, error.body_text()))?;
        Ok(Self(query))
    }
}

/// Parameters of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parsed = extract::Path::<T>::from_request_parts(parts, state).await;
        let extract::Path(path) =
            parsed.map_err(|error| Problem::new(Kind::BadParameter, error.body_text()))?;
        Ok(Self(path))
    }
}

/// A body of JSON: an object, though serde would take a list of fields for one as well.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(body) = axum::Json::<Map<String, Value>>::from_request(request, state)
            .await
            .map_err(|error| Problem::new(kind_of(&error), error.body_text()))?;
        serde_json::from_value(Value::Object(body))
            .map(Self)
            .map_err(|error| Problem::new(Kind::BadContent, error.to_string()))
    }
}

fn kind_of(error: &JsonRejection) -> Kind {
    match error {
        JsonRejection::JsonDataError(_) => Kind::BadContent,
        JsonRejection::MissingJsonContentType(_) => Kind::MediaType,
        JsonRejection::BytesRejection(BytesRejection::FailedToBufferBody(
            FailedToBufferBody::LengthLimitError(_),
        )) => Kind::TooLarge,
        _ => Kind::BadBody,
    }
}
