set local role footfall_owner;

alter table api_keys
    add column documents text not null default 'APQ'
    check (documents in ('OFF', 'APQ', 'TRUSTED'));

-- Documents that keys of the mode TRUSTED may run, by the id that clients send. `site_id` null: a
-- document for keys of every site. The hash is that of the text, in hex.
create table trusted_documents (
    document_id text collate "C" not null,
    site_id text collate "C" references sites (site_id),
    sha256 text collate "C" not null,
    name text not null,
    text text not null,
    added_at timestamptz not null,
    unique nulls not distinct (document_id, site_id)
);
create index ix_trusted_documents_sha256 on trusted_documents (sha256);

-- Rises with every change of the trusted documents, in the same transaction: processes look at this
-- one number every second instead of at all documents.
alter table ledger add column documents_version bigint not null default 0;

grant select, insert, delete on trusted_documents to footfall_writer;
grant update (documents_version) on ledger to footfall_writer;
reset role;
