-- Repeats of createCredential are answered from app.idempotent_request: this column has no reader and no writer.
alter table app.credential drop column idempotency_key;
