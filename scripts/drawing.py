"""Drawing in SVG, with nothing but Python's own library."""

COLOURS = ["#3b6fb6", "#d9822b", "#4c9f70", "#8e5ea2", "#c0504d", "#6b7a8f", "#b8a038", "#2a9d9d", "#a05a2c", "#7f7f7f"]


class Drawing:
    """An SVG of fixed size; y grows downward."""

    def __init__(self, title, width=760, height=360):
        self.width, self.height, self.parts = width, height, []
        self.text(16, 26, title, size=16, weight="bold")

    def text(self, x, y, text, size=12, anchor="start", weight="normal", colour="#222"):
        text = str(text).replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">{text}</text>'
        )

    def line(self, x1, y1, x2, y2, colour="#ccc", width=1):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>')

    def rectangle(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}"/>')

    def path(self, points, colour, width=2):
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{steps}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def write(self, path):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" font-family="sans-serif">'
        background = f'<rect width="{self.width}" height="{self.height}" fill="#fff"/>'
        path.write_text("\n".join([head, background, *self.parts, "</svg>", ""]))
