"""Buckets that speak S3, reached by boto3 over checked connections; no other room imports it."""
