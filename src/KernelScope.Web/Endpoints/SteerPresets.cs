using KernelScope.Web.Sources;

namespace KernelScope.Web.Endpoints;

/// <summary>Edits worth trying, of models whose features somebody has looked at.</summary>
internal static class SteerPresets
{
    private const string Miller = "Once upon a time there lived a miller who had a child called", DemoSource = "3-demo-res-2k__l0-19";

    private static readonly (string Name, string Prompt, string Source, int Feature, double Strength)[] Known =
    [
        ("The hero becomes a boy", Miller, DemoSource, 69, 10),
        ("No heroine", Miller, DemoSource, 1738, -15),
        ("It turns to scripture", Miller, DemoSource, 991, 20),
        ("A queen", "There was once a", DemoSource, 1652, 10),
    ];

    public static SteerPreset[] For(ServedModel model) =>
        [.. Known.Where(p => model.Sources.Any(s => s.Id == p.Source))
            .Select(p => new SteerPreset(p.Name, p.Prompt, [new PresetFeature(model.Id, p.Source, p.Feature, p.Strength)]))];
}
