"""Webhooks over HTTP: the adapter of `gateway.service.deliveries.WebhookSender`."""
