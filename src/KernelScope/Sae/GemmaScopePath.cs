using System.Globalization;
using System.Text.RegularExpressions;

namespace KernelScope.Sae;

/// <summary>
/// Where a Gemma Scope file belongs, from its path: <c>gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz</c>, the same in a hub cache
/// (<c>models--google--gemma-scope-2b-pt-res/snapshots/REVISION/layer_20/...</c>), or below a folder named res, mlp, att or transcoder.
/// <para>
/// The embedding SAEs get no site. Their files fit rows of the table before they are scaled; SAELens moves them to scaled rows by dividing W_enc and multiplying W_dec by √hidden,
/// but leaves b_dec as it is, which looks inconsistent and is confirmed by nobody.
/// </para>
/// </summary>
/// <param name="Site">The site it reads, in our notation; null if the path does not say, or it is not a hook point.</param>
/// <param name="SiteOut">The site it writes; null as above.</param>
/// <param name="Note">Why there is no site although the path is Gemma Scope's.</param>
/// <param name="IsTranscoder">Whether the path says that it is a transcoder.</param>
internal readonly partial record struct GemmaScopePath(string? Site, string? SiteOut, string? Note, bool IsTranscoder)
{
    // The nearest folder that names a kind is looked for this far above the layer folder: a cache puts snapshots/REVISION between.
    private const int MaxDistance = 3;

    /// <summary>Reads a path; unknown paths give nulls.</summary>
    public static GemmaScopePath Parse(string path)
    {
        string[] parts = Path.GetFullPath(path).Split(['/', '\\'], StringSplitOptions.RemoveEmptyEntries);
        for (int i = parts.Length - 1; i > 0; i--)
        {
            if (parts[i] == "embedding" && KindAbove(parts, i) is not null)
                return new GemmaScopePath(null, null, "this SAE was trained on rows of the embedding table before they are scaled by " +
                    "sqrt(hidden), which is not a hook point ('embed' is scaled)", false);
            if (Layer().Match(parts[i]) is { Success: true } match
                && int.TryParse(match.Groups[1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out int layer))
                return Create(KindAbove(parts, i), layer);
        }
        return default;
    }

    /// <summary>The model that a Gemma Scope repository's name in the path stands for, <c>gemma-2-9b-it</c>; null if there is none.</summary>
    public static string? ModelOf(string path) => Path.GetFullPath(path).Split(['/', '\\']).Select(part => Repository().Match(part))
        .LastOrDefault(m => m.Success) is Match match
        ? $"gemma-2-{match.Groups[1].Value}{(match.Groups[2].Value == "it" ? "-it" : "")}"
        : null;

    // Attention: the input of o_proj. MLP: after the post-norm. Transcoder: from the normed stream without its gain to the MLP's site.
    private static GemmaScopePath Create(string? kind, int layer)
    {
        string At(string name) => string.Create(CultureInfo.InvariantCulture, $"{name}.{layer}");
        return kind switch
        {
            "res" => new GemmaScopePath(At("resid_post"), At("resid_post"), null, false),
            "att" => new GemmaScopePath(At("z"), At("z"), null, false),
            "mlp" => new GemmaScopePath(At("mlp_out_post"), At("mlp_out_post"), null, false),
            "transcoder" => new GemmaScopePath(At("mlp_in_unit"), At("mlp_out_post"), null, true),
            _ => default,
        };
    }

    private static string? KindAbove(string[] parts, int at)
    {
        for (int i = at - 1; i >= Math.Max(0, at - MaxDistance); i--)
            if (Kind().Match(parts[i]) is { Success: true } match)
                return match.Groups[1].Value;
        return null;
    }

    [GeneratedRegex(@"\A(?:models--google--)?gemma-scope-(2b|9b|27b)-(pt|it)-[a-z]+(?:-canonical)?\z")]
    private static partial Regex Repository();

    [GeneratedRegex(@"\Alayer_([0-9]{1,4})\z")]
    private static partial Regex Layer();

    [GeneratedRegex(@"\A(?:(?:models--[A-Za-z0-9._-]+--)?gemma-scope-[A-Za-z0-9._-]+-)?(res|mlp|att|transcoder)s?(?:-canonical)?\z")]
    private static partial Regex Kind();
}
