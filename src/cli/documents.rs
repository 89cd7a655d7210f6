//! The schemas of all that people write and of what commands print for programs.

use serde_json::Value;

use super::history;
use crate::{
    audit::data::Report,
    model::status::Status,
    plan, review,
    spec::schema::{self, Draft, written},
    web,
};

/// Each schema of a draft by the name of its file.
pub fn schemas(draft: Draft) -> Vec<(&'static str, Value)> {
    let mut all = schema::of(draft);
    all.extend([
        ("history.json", written::<history::Document>(draft, "history")),
        ("plan.json", written::<plan::render::Document<'_>>(draft, "plan")),
        ("report.json", written::<Report>(draft, "report")),
        ("review.json", written::<review::render::Document<'_>>(draft, "review")),
        ("status.json", written::<Status>(draft, "status")),
    ]);
    all
}

/// What lies under `schema/`, by its path there: the newest draft, draft-07 for editors that know no newer one, and the calls
/// of the daemon's sockets as OpenAPI.
pub fn published() -> Vec<(String, Value)> {
    let newest =
        schemas(Draft::Newest).into_iter().chain(web::schemas()).map(|(name, schema)| (name.to_owned(), schema));
    let draft07 = schemas(Draft::Seven).into_iter().map(|(name, schema)| (format!("draft-07/{name}"), schema));
    newest.chain(draft07).collect()
}
