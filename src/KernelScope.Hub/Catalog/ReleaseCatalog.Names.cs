using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.RegularExpressions;
using KernelScope.Sae;

namespace KernelScope.Hub.Catalog;

// Names: ours, the hub's, SAELens' and Neuronpedia's.
public static partial class ReleaseCatalog
{
    private const int NearCount = 3;

    /// <summary>
    /// Reads a name: <c>gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71</c> (before it <c>google/</c>, after it <c>/params.npz</c>, if one likes), <c>…/canonical</c> (with
    /// "-canonical" after the release as SAELens has it, or without), or Neuronpedia's <c>gemma-2-2b/20-gemmascope-res-16k</c>, the canonical one, and
    /// <c>gemma-2-2b/5-gemmascope-res-16k__l0-143</c>. A well-formed name that is not in the table gives an entry that is not <see cref="ReleasedSae.IsListed"/>.
    /// </summary>
    /// <returns>Whether it is such a name; "canonical" is none where there is no canonical SAE.</returns>
    public static bool TryParse(string name, [NotNullWhen(true)] out ReleasedSae? sae)
    {
        ArgumentNullException.ThrowIfNull(name);
        sae = Parts.Of(name) is Parts parts ? Resolve(parts) : null;
        return sae is not null;
    }

    /// <summary>As the other overload, of SAELens' pair: release <c>gemma-scope-2b-pt-res-canonical</c>, id <c>layer_20/width_16k/canonical</c>.</summary>
    public static bool TryParse(string release, string saeId, [NotNullWhen(true)] out ReleasedSae? sae) =>
        TryParse($"{release}/{saeId}", out sae);

    /// <summary>As <see cref="TryParse(string, out ReleasedSae?)"/>.</summary>
    /// <exception cref="ArgumentException">It is not such a name; the message has near ones.</exception>
    public static ReleasedSae Parse(string name) =>
        TryParse(name, out ReleasedSae? sae) ? sae
            : throw new ArgumentException($"'{name}' names no SAE of the catalogue; near it: {string.Join(", ", Near(name))}.",
                nameof(name));

    /// <summary>Names of the catalogue that are most like one, nearest first.</summary>
    public static IReadOnlyList<string> Near(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (Parts.Of(name) is Parts parts && All.Any(s => s.Release == parts.Release))
        {
            int l0 = parts.L0 ?? CanonicalL0;
            return [.. All.Where(s => s.Release == parts.Release)
                .OrderBy(s => (s.Layer == parts.Layer ? 0 : 1) + (s.WidthName == parts.Width ? 0 : 1))
                .ThenBy(s => Math.Abs(s.Layer - parts.Layer)).ThenBy(s => Math.Abs(s.L0 - l0)).Take(NearCount).Select(s => s.Name)];
        }

        // Longer texts are not misspelt names; what is like them does not depend on their ends.
        string text = (name.Length > 100 ? name[..100] : name).ToLowerInvariant();
        return [.. All.SelectMany(s => Spellings(s).Select(spelling => (s.Name, Distance: Distance(text, spelling))))
            .OrderBy(n => n.Distance).ThenBy(n => n.Name, StringComparer.Ordinal)
            .Select(n => n.Name).Distinct().Take(NearCount)];
    }

    private static ReleasedSae? Resolve(Parts parts)
    {
        IEnumerable<ReleasedSae> there = All.Where(s => s.Release == parts.Release && s.Layer == parts.Layer && s.WidthName == parts.Width);
        if (parts.L0 is not int l0)
            return there.FirstOrDefault(s => s.IsCanonical || (parts.IsPage && s.NeuronpediaId == NeuronpediaPage(s)));
        ReleaseKind kind = parts.Layer < 0 ? ReleaseKind.Embedding
            : ReleasedSae.KindOf(parts.Release[(parts.Release.LastIndexOf('-') + 1)..]);
        var sae = new ReleasedSae(parts.Release, kind, parts.Layer, parts.Width, l0, isCanonical: false, isListed: false, null);
        return ByName.Value.GetValueOrDefault(sae.Name, sae);
    }

    // gemma-2-2b/20-gemmascope-res-16k. All 455 such pages in SAELens' directory of October 2025 follow this rule.
    private static string NeuronpediaPage(ReleasedSae sae)
    {
        string word = sae.Kind == ReleaseKind.Transcoder ? "transcoder" : sae.Release[(sae.Release.LastIndexOf('-') + 1)..];
        return string.Create(CultureInfo.InvariantCulture, $"{sae.Model}/{sae.Layer}-gemmascope-{word}-{sae.WidthName}");
    }

    private static IEnumerable<string> Spellings(ReleasedSae sae)
    {
        yield return sae.Name;
        yield return sae.Repository + "/" + sae.Folder;
        if (sae.CanonicalId is string id)
            yield return sae.Release + "/" + id;
        if (sae.NeuronpediaId is string page)
            yield return page;
    }

    // Levenshtein's: insertions, deletions and replacements.
    private static int Distance(string a, string b)
    {
        Span<int> row = stackalloc int[b.Length + 1];
        for (int j = 0; j <= b.Length; j++)
            row[j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, 1 + Math.Min(row[j], row[j - 1]));
            }
        }

        return row[b.Length];
    }

    /// <summary>What a well-formed name says. No L0: the canonical one is meant, or of a transcoder's page on Neuronpedia the only one.</summary>
    private sealed partial record Parts(string Release, int Layer, string Width, int? L0, bool IsPage)
    {
        public static Parts? Of(string name)
        {
            string text = name.Trim().TrimEnd('/');
            if (text.EndsWith("/" + SaeCheckpoint.ParamsName, StringComparison.Ordinal))
                text = text[..^(SaeCheckpoint.ParamsName.Length + 1)];
            return OfPath(text) ?? OfPage(text);
        }

        private static Parts? OfPath(string text) =>
            Path().Match(text) is { Success: true } m && ReleasedSae.Features(m.Groups["width"].Value) is not null
            ? new Parts(m.Groups["release"].Value, Number(m.Groups["layer"]) ?? -1, m.Groups["width"].Value, Number(m.Groups["l0"]), false)
            : null;

        private static Parts? OfPage(string text)
        {
            if (Page().Match(text) is not { Success: true } m || ReleasedSae.Features(m.Groups["width"].Value) is null)
                return null;
            string word = m.Groups["kind"].Value == "transcoder" ? "transcoders" : m.Groups["kind"].Value;
            string release = $"gemma-scope-{m.Groups["size"].Value}-{(m.Groups["it"].Success ? "it" : "pt")}-{word}";
            return new Parts(release, Number(m.Groups["layer"])!.Value, m.Groups["width"].Value, Number(m.Groups["l0"]), true);
        }

        private static int? Number(Group digits) =>
            digits.Success ? int.Parse(digits.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture) : null;

        [GeneratedRegex(@"\A(?:google/)?(?<release>gemma-scope-(?:2b|9b|27b)-(?:pt|it)-(?:res|mlp|att|transcoders))(?:-canonical)?/"
            + @"(?:layer_(?<layer>0|[1-9][0-9]{0,3})|embedding)/width_(?<width>[0-9]{1,3}[km])/"
            + @"(?:canonical|average_l0_(?<l0>0|[1-9][0-9]{0,6}))\z", RegexOptions.CultureInvariant)]
        private static partial Regex Path();

        [GeneratedRegex(@"\Agemma-2-(?<size>2b|9b|27b)(?<it>-it)?/(?<layer>0|[1-9][0-9]{0,3})-gemmascope-"
            + @"(?<kind>res|mlp|att|transcoder)-(?<width>[0-9]{1,3}[km])(?:__l0-(?<l0>0|[1-9][0-9]{0,6}))?\z",
            RegexOptions.CultureInvariant)]
        private static partial Regex Page();
    }
}
