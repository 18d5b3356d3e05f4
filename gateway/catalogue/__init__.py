"""What is known of the vendor's models: prices, latencies, parameters."""

from gateway.catalogue.loader import Catalogue, load_catalogue
from gateway.catalogue.models import ModelInfo, ModelOverride

__all__ = ["Catalogue", "ModelInfo", "ModelOverride", "load_catalogue"]
