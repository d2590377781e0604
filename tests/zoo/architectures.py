"""The networks of the zoo: the smallest of each family of timm and torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["ARCHITECTURES", "Architecture", "awaken", "build"]

_NONE: Mapping[str, Any] = MappingProxyType({})


class Architecture(NamedTuple):
    """A network.

    Attributes
    ----------
    family : str
    spec : str
        ``timm:NAME``, ``torchvision:NAME``, or ``segmenter:NAME`` and ``detector:NAME`` of
        torchvision.
    kinds : str
        Of its layers.
    size : int
        Side of the images, px.
    options : mapping
        For the builder: what makes it smaller.
    cut : mapping of str to int
        Sequences of blocks and how many of them are kept.
    more : bool
        Only with EXPLGRAPH_ZOO=all.
    """

    family: str
    spec: str
    kinds: str
    size: int = 128
    options: Mapping[str, Any] = _NONE
    cut: Mapping[str, int] = _NONE
    more: bool = False


def build(architecture: Architecture) -> nn.Module:
    """Build a network with random weights."""
    source, _, name = architecture.spec.partition(":")
    options = dict(architecture.options)
    torch.manual_seed(0)
    if source == "timm":
        import timm

        model = timm.create_model(name, pretrained=False, **options)
        for blocks, number in architecture.cut.items():
            setattr(model, blocks, getattr(model, blocks)[:number])
        return model.eval()
    import torchvision

    wings = {
        "torchvision": torchvision.models,
        "segmenter": torchvision.models.segmentation,
        "detector": torchvision.models.detection,
    }
    if source != "torchvision":
        options |= {"weights_backbone": None}
    model = getattr(wings[source], name)(weights=None, **options).eval()
    return model.backbone.eval() if source == "detector" else model


def awaken(model: nn.Module, size: int) -> None:
    """Let all branches of a network with random weights take part, as those of a trained one do.

    What begins at a constant (scales of normalisations and of residual branches, many at zero or
    nearly) is drawn at random, and batch normalisations take up the statistics of noise: otherwise
    deep networks give hardly anything, or the same everywhere.
    """
    generator = torch.Generator().manual_seed(1)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            constant = parameter.numel() > 1 and float(parameter.max() - parameter.min()) == 0
            if (
                constant
                and "bias" not in name
                and "token" not in name
                and parameter.squeeze().ndim < 2
            ):
                drawn = 0.5 + torch.rand(parameter.shape, generator=generator)
                parameter.copy_(drawn * (1 if float(parameter.max()) > 0.1 else 0.2))
        for norm in norms:
            norm.momentum, norm.training = None, True
            norm.reset_running_stats()
        model(torch.randn(4, 3, size, size, generator=generator))
        for norm in norms:
            norm.training = False


_SHORT = {"depth": 4}
_SWIN = {"depths": (2, 2, 2, 2)}

ARCHITECTURES = (
    # convolutions
    Architecture("VGG", "torchvision:vgg11", "convolutions, max pooling", 96),
    Architecture("AlexNet", "torchvision:alexnet", "large strides"),
    Architecture("SqueezeNet", "torchvision:squeezenet1_1", "two branches, concatenated"),
    Architecture("ResNet", "torchvision:resnet18", "residual blocks"),
    Architecture("ResNet-D", "timm:resnet18d", "deep stem, pooled shortcuts", more=True),
    Architecture("ResNet-blur", "timm:resnetblur18", "blurred strides", more=True),
    Architecture("pre-activation ResNet", "timm:resnetv2_18", "sums without a ReLU"),
    Architecture("ResNeXt", "timm:resnext50_32x4d", "grouped convolutions", 128, more=True),
    Architecture("SE-ResNet", "timm:seresnet18", "gates from global pooling"),
    Architecture("SK-ResNet", "timm:skresnet18", "selected kernels"),
    Architecture("ResNeSt", "timm:resnest14d", "split attention"),
    Architecture("Res2Net", "timm:res2net50_48w_2s", "scales within a block", more=True),
    Architecture("Res2Net (DLA)", "timm:dla60_res2net", "scales within a block", more=True),
    Architecture("DenseNet", "torchvision:densenet121", "dense concatenation", more=True),
    Architecture("DPN", "timm:dpn48b", "sums and concatenation"),
    Architecture("DLA", "timm:dla46_c", "trees of layers"),
    Architecture("HRNet", "timm:hrnet_w18_small", "four grids side by side"),
    Architecture("RegNet", "torchvision:regnet_y_400mf", "grouped convolutions, gates"),
    Architecture("EfficientNet", "timm:efficientnet_lite0", "inverted residuals"),
    Architecture("EfficientNet (SE)", "torchvision:efficientnet_b0", "inverted residuals, gates"),
    Architecture(
        "EfficientNet (TensorFlow)", "timm:tf_efficientnet_b0", "padding by size", more=True
    ),
    Architecture("EfficientNetV2", "timm:efficientnetv2_rw_t", "fused blocks", more=True),
    Architecture("MobileNetV1", "timm:mobilenetv1_100", "depthwise convolutions", more=True),
    Architecture("MobileNetV2", "torchvision:mobilenet_v2", "inverted residuals"),
    Architecture("MobileNetV3", "torchvision:mobilenet_v3_small", "inverted residuals, gates"),
    Architecture("MobileNetV4", "timm:mobilenetv4_conv_small", "universal inverted bottlenecks"),
    Architecture(
        "MobileNetV4 hybrid", "timm:mobilenetv4_hybrid_medium", "with attention", more=True
    ),
    Architecture("MNASNet", "torchvision:mnasnet0_5", "inverted residuals", more=True),
    Architecture("ShuffleNet", "torchvision:shufflenet_v2_x0_5", "shuffled channels"),
    Architecture("GhostNet", "timm:ghostnet_050", "cheap maps beside others"),
    Architecture("RepGhost", "timm:repghostnet_050", "cheap maps, merged branches", more=True),
    Architecture("RepVGG", "timm:repvgg_a0", "branches merged for use"),
    Architecture("MobileOne", "timm:mobileone_s0", "branches merged for use", more=True),
    Architecture(
        "Inception v3", "torchvision:inception_v3", "branches, 1 x 7 kernels", 192, more=True
    ),
    Architecture("GoogLeNet", "torchvision:googlenet", "branches"),
    Architecture("Inception-ResNet", "timm:inception_resnet_v2", "branches, sums", 192, more=True),
    Architecture("Xception", "timm:xception41", "separable convolutions", more=True),
    Architecture("NFNet", "timm:nf_regnet_b0", "no normalisation", 160),
    Architecture("VoVNet", "timm:ese_vovnet19b_slim_dw", "aggregation", more=True),
    Architecture("CSPNet", "timm:cspnext_tiny", "cross-stage parts", more=True),
    Architecture("DarkNet", "timm:cs3darknet_focus_s", "space to depth", more=True),
    Architecture("HGNet", "timm:hgnetv2_b0", "aggregation", more=True),
    Architecture("ReXNet", "timm:rexnet_100", "growing widths", more=True),
    Architecture("LCNet", "timm:lcnet_050", "depthwise convolutions", more=True),
    Architecture("MixNet", "timm:mixnet_s", "mixed kernel sizes", more=True),
    Architecture("NASNet", "timm:pnasnet5large", "searched cells", 160, more=True),
    Architecture("SelecSLS", "timm:selecsls42b", "skips across blocks", more=True),
    Architecture("TResNet", "timm:tresnet_m", "space to depth", more=True),
    Architecture("StarNet", "timm:starnet_s050", "products of maps"),
    Architecture("FasterNet", "timm:fasternet_t0", "partial convolutions"),
    Architecture("RepViT", "timm:repvit_m0_9", "merged branches", more=True),
    Architecture("ConvNeXt", "timm:convnext_atto", "7 x 7 depthwise, no ReLU"),
    Architecture(
        "ConvNeXt (torchvision)", "torchvision:convnext_tiny", "permuted for its norms", more=True
    ),
    Architecture("ConvNeXt V2", "timm:convnextv2_atto", "global response normalisation"),
    Architecture("InceptionNeXt", "timm:inception_next_atto", "band kernels"),
    Architecture(
        "ConvMixer", "timm:convmixer_768_32", "patches, convolutions", 112, cut={"blocks": 4}
    ),
    Architecture("MambaOut", "timm:mambaout_femto", "gated convolutions, NHWC"),
    # convolutions and attention
    Architecture("EdgeNeXt", "timm:edgenext_xx_small", "cross-covariance attention"),
    Architecture("EfficientViT (MIT)", "timm:efficientvit_b0", "linear attention"),
    Architecture("EfficientViT (MSRA)", "timm:efficientvit_m0", "cascaded attention", 224),
    Architecture("MobileViT", "timm:mobilevit_xxs", "unfolded patches"),
    Architecture("MobileViT v2", "timm:mobilevitv2_050", "separable attention"),
    Architecture("FastViT", "timm:fastvit_t8", "merged branches, attention"),
    Architecture(
        "CoAtNet", "timm:coatnet_pico_rw_224", "convolutions, then attention", 224, more=True
    ),
    Architecture(
        "MaxViT", "timm:maxvit_pico_rw_256", "windows and grids of tokens", 256, more=True
    ),
    Architecture(
        "MaxViT (torchvision)", "torchvision:maxvit_t", "windows and grids", 224, more=True
    ),
    Architecture("EfficientFormer", "timm:efficientformer_l1", "maps, then tokens", 224, more=True),
    Architecture(
        "EfficientFormer V2", "timm:efficientformerv2_s0", "strided attention", 224, more=True
    ),
    Architecture("SwiftFormer", "timm:swiftformer_xs", "additive attention", more=True),
    Architecture("NextViT", "timm:nextvit_small", "convolutions and attention", more=True),
    Architecture("BoTNet", "timm:botnet26t_256", "attention in a ResNet", 256, more=True),
    Architecture("HaloNet", "timm:halonet26t", "attention in windows with halos", 256, more=True),
    Architecture("LambdaNet", "timm:lambda_resnet26t", "lambda layers", 256, more=True),
    Architecture("Visformer", "timm:visformer_tiny", "maps throughout", 224),
    Architecture("LeViT", "timm:levit_128s", "tokens, subsampled", 224),
    Architecture("TinyViT", "timm:tiny_vit_5m_224", "windows as tokens", 224, more=True),
    Architecture(
        "MetaFormer", "timm:caformer_s18", "convolutions, attention, NHWC", 128, more=True
    ),
    Architecture("PoolFormer", "timm:poolformer_s12", "pooling in place of attention"),
    Architecture("SHViT", "timm:shvit_s1", "single-head attention", 224),
    # hierarchical transformers
    Architecture(
        "Swin", "timm:swin_tiny_patch4_window7_224", "shifted windows, NHWC", 224, _SWIN, more=True
    ),
    Architecture("Swin (torchvision)", "torchvision:swin_t", "shifted windows, NHWC", 128),
    Architecture(
        "Swin V2",
        "timm:swinv2_tiny_window8_256",
        "shifted windows, NHWC",
        128,
        _SWIN | {"img_size": 128, "window_size": 4},
    ),
    Architecture(
        "Swin V2 (torchvision)", "torchvision:swin_v2_t", "shifted windows, NHWC", 128, more=True
    ),
    Architecture("Swin V2 CR", "timm:swinv2_cr_tiny_224", "shifted windows", 224, _SWIN, more=True),
    Architecture(
        "Hiera",
        "timm:hiera_tiny_224",
        "tokens in a hierarchical order",
        128,
        {"img_size": (128, 128)},
    ),
    Architecture("Hiera (SAM 2)", "timm:sam2_hiera_tiny", "windows, NHWC", 128),
    Architecture("MViT v2", "timm:mvitv2_tiny", "pooled attention", 224, more=True),
    Architecture("PVT v2", "timm:pvt_v2_b0", "reduced attention"),
    Architecture(
        "Twins-PCPVT", "timm:twins_pcpvt_small", "positions by convolution", 128, more=True
    ),
    Architecture(
        "Twins-SVT",
        "timm:twins_svt_small",
        "windows and reduced tokens",
        224,
        {"depths": (2, 2, 2, 2)},
    ),
    Architecture(
        "DaViT", "timm:davit_tiny", "windows and channels", 224, {"depths": (1, 1, 2, 1)}, more=True
    ),
    Architecture("FocalNet", "timm:focalnet_tiny_srf", "focal modulation", 128, more=True),
    Architecture("GC ViT", "timm:gcvit_xxtiny", "global queries", 224, more=True),
    Architecture("NesT", "timm:nest_tiny", "nested blocks of tokens", 224, more=True),
    Architecture("CoaT", "timm:coat_lite_tiny", "co-scale attention", 224, more=True),
    Architecture(
        "Sequencer",
        "timm:sequencer2d_s",
        "LSTMs along rows and columns",
        224,
        {"layers": (1, 1, 2, 1)},
        more=True,
    ),
    # plain transformers
    Architecture(
        "ViT", "timm:vit_tiny_patch16_224", "a class token", 112, _SHORT | {"img_size": 112}
    ),
    Architecture("ViT (torchvision)", "torchvision:vit_b_32", "a class token", 224, more=True),
    Architecture(
        "ViT, mean pooling",
        "timm:vit_base_patch16_gap_224",
        "no class token",
        112,
        _SHORT | {"img_size": 112, "embed_dim": 192, "num_heads": 3},
    ),
    Architecture(
        "ViT, registers",
        "timm:vit_little_patch16_reg4_gap_256",
        "registers, no class token",
        128,
        _SHORT | {"img_size": 128},
    ),
    Architecture(
        "ViT, relative positions",
        "timm:vit_relpos_small_patch16_224",
        "no class token",
        112,
        _SHORT | {"img_size": 112},
    ),
    Architecture(
        "ViT, hybrid", "timm:vit_tiny_r_s16_p8_224", "a ResNet stem", 224, _SHORT, more=True
    ),
    Architecture(
        "DeiT",
        "timm:deit_tiny_distilled_patch16_224",
        "two class tokens",
        112,
        _SHORT | {"img_size": 112},
    ),
    Architecture(
        "DeiT III",
        "timm:deit3_small_patch16_224",
        "a class token, layer scale",
        112,
        _SHORT | {"img_size": 112},
        more=True,
    ),
    Architecture(
        "BEiT",
        "timm:beit_base_patch16_224",
        "a class token",
        112,
        _SHORT | {"img_size": 112, "embed_dim": 192, "num_heads": 3},
    ),
    Architecture(
        "EVA-02",
        "timm:eva02_tiny_patch14_224",
        "rotary positions",
        112,
        _SHORT | {"img_size": 112},
        more=True,
    ),
    Architecture(
        "DINOv2, registers",
        "timm:vit_small_patch14_reg4_dinov2",
        "class token, registers",
        112,
        _SHORT | {"img_size": 112},
    ),
    Architecture(
        "DINOv3",
        "timm:vit_small_patch16_dinov3",
        "class token, registers, rotary",
        128,
        _SHORT | {"img_size": 128},
    ),
    Architecture(
        "CLIP",
        "timm:vit_xsmall_patch16_clip_224",
        "a class token, norm before",
        112,
        _SHORT | {"img_size": 112},
    ),
    Architecture(
        "SigLIP",
        "timm:vit_base_patch16_siglip_224",
        "pooled by attention",
        112,
        _SHORT | {"img_size": 112, "embed_dim": 192, "num_heads": 3},
    ),
    Architecture(
        "SAM",
        "timm:samvit_base_patch16_224",
        "windows, NHWC",
        224,
        _SHORT | {"embed_dim": 192, "num_heads": 3},
    ),
    Architecture(
        "CaiT", "timm:cait_xxs24_224", "class token added late", 112, _SHORT | {"img_size": 112}
    ),
    Architecture(
        "XCiT",
        "timm:xcit_nano_12_p16_224",
        "attention across filters",
        112,
        _SHORT | {"img_size": 112},
    ),
    Architecture("CrossViT", "timm:crossvit_9_240", "two grids of tokens", 240, more=True),
    Architecture(
        "TNT", "timm:tnt_s_patch16_224", "tokens within tokens", 112, _SHORT | {"img_size": 112}
    ),
    Architecture("VOLO", "timm:volo_d1_224", "outlook attention, NHWC", 224, more=True),
    Architecture("ConViT", "timm:convit_tiny", "gated positions", 112, _SHORT | {"img_size": 112}),
    Architecture("PiT", "timm:pit_ti_224", "pooled tokens", 224),
    Architecture(
        "FlexiViT",
        "timm:flexivit_small",
        "a class token",
        128,
        _SHORT | {"img_size": 128},
        more=True,
    ),
    # mixers
    Architecture(
        "MLP-Mixer", "timm:mixer_s32_224", "linear layers across tokens", 224, cut={"blocks": 4}
    ),
    Architecture(
        "ResMLP", "timm:resmlp_12_224", "linear layers across tokens", 224, cut={"blocks": 4}
    ),
    Architecture("gMLP", "timm:gmlp_ti16_224", "gates across tokens", 224, cut={"blocks": 4}),
    # segmenters, detectors
    Architecture("DeepLabV3", "segmenter:deeplabv3_mobilenet_v3_large", "dilated convolutions"),
    Architecture("LR-ASPP", "segmenter:lraspp_mobilenet_v3_large", "two grids joined"),
    Architecture("FCN", "segmenter:fcn_resnet50", "dilated convolutions", more=True),
    Architecture(
        "FPN (Faster R-CNN)", "detector:fasterrcnn_mobilenet_v3_large_320_fpn", "a pyramid"
    ),
    Architecture("SSDlite", "detector:ssdlite320_mobilenet_v3_large", "six grids", 320, more=True),
)
