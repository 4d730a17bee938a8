use axum::{
    Router,
    http::{
        HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Redirect},
    routing::get,
};

/// Everything from here, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The dashboard: pages that call the broker as anybody may, see `rpc/json`.
pub fn pages() -> Router {
    let file =
        |kind: &'static str, text: &'static str| get(move || async move { served(kind, text) });
    Router::new()
        .route("/", get(async || Redirect::temporary("/ui/")))
        .route("/ui", get(async || Redirect::permanent("/ui/")))
        .route("/ui/", file(HTML, include_str!("pages/index.html")))
        .route("/ui/app.js", file(SCRIPT, include_str!("pages/app.js")))
        .route("/ui/api.js", file(SCRIPT, include_str!("pages/api.js")))
        .route("/ui/views.js", file(SCRIPT, include_str!("pages/views.js")))
        .route("/ui/latency.js", file(SCRIPT, include_str!("pages/latency.js")))
        .route("/ui/limits.js", file(SCRIPT, include_str!("pages/limits.js")))
        .route("/ui/parts.js", file(SCRIPT, include_str!("pages/parts.js")))
        .route("/ui/style.css", file("text/css; charset=utf-8", include_str!("pages/style.css")))
        .route("/ui/icon.svg", file("image/svg+xml", include_str!("pages/icon.svg")))
}

fn served(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let header = |name: HeaderName, value: &'static str| (name, HeaderValue::from_static(value));
    let headers = [
        header(CONTENT_TYPE, kind),
        // With the next start there may be others.
        header(CACHE_CONTROL, "no-cache"),
        header(CONTENT_SECURITY_POLICY, POLICY),
        header(X_CONTENT_TYPE_OPTIONS, "nosniff"),
        header(REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text)
}
