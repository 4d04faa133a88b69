"""A solid as files: GLB for browsers and Android, USDZ for iPhones, STL for a printer.

Source: glTF 2.0 (Khronos); OpenUSD's specification of USDZ, by which a package is a zip without
compression whose members begin on 64 bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib.drawing.marks import Mark, encode_marked
from s2i_lib.photos.reading import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.ar.solid import Solid

ALIGN = 64  # bytes on which the members of a USDZ begin
FILE_HEADER = 30  # bytes of a member's header before its name, in every zip
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the same solid, the same bytes
JPEG_QUALITY = 90


def texture_bytes(texture: Image, mark: Mark) -> bytes:
    """Return a texture as a JPEG that carries its mark."""
    return encode_marked(texture, "JPEG", mark, quality=JPEG_QUALITY, subsampling=0)


def to_glb(solid: Solid, mark: Mark) -> bytes:
    """Return a solid as binary glTF, with its mark in ``asset.extras``."""
    import trimesh
    from trimesh.exchange.gltf import export_glb
    from trimesh.visual.material import PBRMaterial

    jpeg = open_image(texture_bytes(solid.texture, mark))
    material = PBRMaterial(baseColorTexture=jpeg, metallicFactor=0.0, roughnessFactor=0.8)
    uv = solid.uv * (1, -1) + (0, 1)  # trimesh counts from the bottom, glTF and we from the top
    mesh = trimesh.Trimesh(
        solid.vertices,
        solid.faces,
        vertex_normals=solid.normals,
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
        process=False,
    )

    def say_who(tree: dict[str, Any]) -> None:
        tree["asset"] |= {"generator": mark.tool, "extras": mark.to_json()}

    scene = trimesh.Scene(mesh)
    return export_glb(scene, include_normals=True, tree_postprocessor=say_who)


def to_stl(mesh: Any) -> bytes:
    """Return a closed trimesh as binary STL, which has no place for a mark."""
    return mesh.export(file_type="stl")


def to_usdz(solid: Solid, mark: Mark, title: str) -> bytes:
    """Return a solid as USDZ, with its mark in the layer's ``customLayerData``."""
    layer = _layer(solid, mark, title).encode()
    return _package({"model.usda": layer, "texture.jpg": texture_bytes(solid.texture, mark)})


def _package(members: dict[str, bytes]) -> bytes:
    """Zip without compression; padding in a member's extra field moves its data to 64 bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, EARLIEST)
            head = stream.tell() + FILE_HEADER + len(name)
            missing = -head % ALIGN
            if missing:  # a field has 4 bytes before its content
                missing += ALIGN if missing < 4 else 0
                info.extra = b"\x86\x19" + (missing - 4).to_bytes(2, "little") + bytes(missing - 4)
            archive.writestr(info, data)
    return stream.getvalue()


def _layer(solid: Solid, mark: Mark, title: str) -> str:
    """Return the USD layer as text: one mesh with one material, y up, in metres."""
    low, high = solid.vertices.min(axis=0), solid.vertices.max(axis=0)
    said = "\n".join(f"        string {key} = {json.dumps(value)}"
                     for key, value in mark.to_json().items())  # fmt: skip
    uv = solid.uv * (1, -1) + (0, 1)  # USD counts from the bottom
    return LAYER.format(
        said=said,
        documentation=json.dumps(title, ensure_ascii=False),
        extent=_tuples(np.stack([low, high]), 5),
        counts=", ".join(["3"] * len(solid.faces)),
        indices=", ".join(map(str, solid.faces.ravel().tolist())),
        points=_tuples(solid.vertices, 5),
        normals=_tuples(solid.normals, 3),
        uv=_tuples(uv, 4),
    )


def _tuples(rows: np.ndarray, digits: int) -> str:
    form = "(" + ", ".join([f"%.{digits}f"] * rows.shape[1]) + ")"
    return ", ".join(form % tuple(row) for row in rows.tolist())


LAYER = """#usda 1.0
(
    customLayerData = {{
{said}
    }}
    defaultPrim = "Figure"
    doc = {documentation}
    metersPerUnit = 1
    upAxis = "Y"
)

def Xform "Figure" (
    kind = "component"
)
{{
    def Mesh "Surface" (
        prepend apiSchemas = ["MaterialBindingAPI"]
    )
    {{
        float3[] extent = [{extent}]
        int[] faceVertexCounts = [{counts}]
        int[] faceVertexIndices = [{indices}]
        point3f[] points = [{points}]
        normal3f[] normals = [{normals}] (
            interpolation = "vertex"
        )
        texCoord2f[] primvars:st = [{uv}] (
            interpolation = "vertex"
        )
        uniform token subdivisionScheme = "none"
        rel material:binding = </Figure/Material>
    }}

    def Material "Material"
    {{
        token outputs:surface.connect = </Figure/Material/Shader.outputs:surface>

        def Shader "Shader"
        {{
            uniform token info:id = "UsdPreviewSurface"
            color3f inputs:diffuseColor.connect = </Figure/Material/Texture.outputs:rgb>
            float inputs:metallic = 0
            float inputs:roughness = 0.8
            token outputs:surface
        }}

        def Shader "Texture"
        {{
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @texture.jpg@
            token inputs:sourceColorSpace = "sRGB"
            float2 inputs:st.connect = </Figure/Material/Place.outputs:result>
            token inputs:wrapS = "clamp"
            token inputs:wrapT = "clamp"
            float3 outputs:rgb
        }}

        def Shader "Place"
        {{
            uniform token info:id = "UsdPrimvarReader_float2"
            string inputs:varname = "st"
            float2 outputs:result
        }}
    }}
}}
"""
