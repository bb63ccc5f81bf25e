-- Who people are: passwords, sessions, one-time links and identity providers, and the brake on guessing. A worker sees
-- none of it.

-- People of the platform have roles of the platform, all others those of tenants.
alter table app.user_role drop constraint user_role_role_check;
--> statement-breakpoint
alter table app.user_role add constraint user_role_role_check check (
  case tenant_id when 'platform' then role in ('PLATFORM_ADMIN', 'SUPPORT', 'AUDITOR')
  else role in ('TENANT_ADMIN', 'DATA_ENGINEER', 'DATA_ANALYST', 'DATA_STEWARD', 'POWER_USER') end);
--> statement-breakpoint
create table app.user_password (
  tenant_id text not null,
  user_id text not null,
  hash text not null,
  set_at timestamptz not null,
  primary key (tenant_id, user_id),
  foreign key (tenant_id, user_id) references app.tenant_user (tenant_id, id) on delete cascade
);
--> statement-breakpoint
-- The link that a person may use once, the newest of its purpose. Its secret follows from the nonce and a key that is not
-- in this database.
create table app.account_link (
  tenant_id text not null,
  user_id text not null,
  purpose text not null check (purpose in ('activate', 'reset')),
  nonce text not null,
  key_id text not null,
  expires_at timestamptz not null,
  primary key (tenant_id, user_id, purpose),
  foreign key (tenant_id, user_id) references app.tenant_user (tenant_id, id) on delete cascade
);
--> statement-breakpoint
-- A session and what its refresh tokens are known by: all of them share one secret, each has another of its own.
create table app.session (
  tenant_id text not null,
  id text not null,
  user_id text not null,
  family_hash text not null,
  token_hash text not null,
  previous_hash text,
  started_at timestamptz not null,
  refreshed_at timestamptz not null,
  expires_at timestamptz not null,
  ended_at timestamptz,
  ended_why text check (ended_why in ('logout', 'reuse', 'password', 'deactivated', 'deleted', 'offboarded', 'too_many')),
  primary key (tenant_id, id),
  foreign key (tenant_id, user_id) references app.tenant_user (tenant_id, id) on delete cascade,
  check ((ended_at is null) = (ended_why is null))
);
--> statement-breakpoint
create index session_of_user on app.session (tenant_id, user_id);
--> statement-breakpoint
create table app.identity_provider (
  tenant_id text not null references app.tenant (id),
  issuer text not null,
  audience text not null,
  keys_url text,
  role_claim text,
  role_map jsonb not null,
  default_role text,
  email_domains text[] not null,
  creates_people boolean not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, issuer)
);
--> statement-breakpoint
-- Who a provider says that somebody is. Tokens from before not_before are refused.
create table app.user_identity (
  tenant_id text not null,
  issuer text not null,
  subject text not null,
  user_id text not null,
  not_before timestamptz not null default 'epoch',
  primary key (tenant_id, issuer, subject),
  foreign key (tenant_id, user_id) references app.tenant_user (tenant_id, id) on delete cascade,
  foreign key (tenant_id, issuer) references app.identity_provider (tenant_id, issuer) on delete cascade
);
--> statement-breakpoint
-- Failed sign-ins. An account or an address is a number of 18 bits, from a keyed hash: the table cannot grow beyond that,
-- and says of nobody that there is an account.
create table app.login_bucket (
  bucket int primary key check (bucket between 0 and 262143),
  failures int not null,
  ends_at timestamptz not null
);
--> statement-breakpoint
create index login_bucket_end on app.login_bucket (ends_at);
--> statement-breakpoint
do $$
declare t text;
begin
  foreach t in array array['user_password', 'account_link', 'session', 'identity_provider', 'user_identity'] loop
    execute format('alter table app.%I enable row level security', t);
    execute format('alter table app.%I force row level security', t);
    execute format(
      'create policy tenant on app.%I to tributary_api using (tenant_id = current_setting(''app.tenant_id'', true)) with check (tenant_id = current_setting(''app.tenant_id'', true) and tenant_id <> '''')', t);
  end loop;
end $$;
--> statement-breakpoint
grant select, insert, update, delete on app.user_password, app.account_link, app.session, app.identity_provider, app.user_identity, app.login_bucket to tributary_api;
