using System.Globalization;
using System.Text.RegularExpressions;
using KernelScope.Hooks;
using KernelScope.Hub.Catalog;

namespace KernelScope.Evaluation;

/// <summary>How sparse an SAE is, and how well it reconstructs, at one site.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public readonly record struct SiteFit
{
    internal SiteFit(HookPoint site, bool beginsWithBos, double l0, double errorRatio, int tokens)
    {
        Site = site;
        BeginsWithBos = beginsWithBos;
        L0 = l0;
        ErrorRatio = errorRatio;
        Tokens = tokens;
    }

    /// <summary>The hook point that the SAE reads.</summary>
    public HookPoint Site { get; init; }

    /// <summary>Whether the texts began with BOS.</summary>
    public bool BeginsWithBos { get; init; }

    /// <summary>Mean number of active features over positions that count.</summary>
    public double L0 { get; init; }

    /// <summary>Median over those positions of ‖y − ŷ‖²/‖y − ȳ‖²: below 1 where it reconstructs at all. The median, because a few tokens of some texts have activations so large that they decide FVU.</summary>
    public double ErrorRatio { get; init; }

    /// <summary>Number of tokens over which both were taken.</summary>
    public int Tokens { get; init; }
}

/// <summary>
/// Doubts whether an SAE is used where it belongs: an SAE at the wrong site still gives numbers. Compared are the L0 that its path names and the measured one, and whether it reconstructs better than the mean.
/// </summary>
/// <remarks>Any number of threads may call it.</remarks>
public static partial class ReleaseDoubt
{
    /// <summary>An L0 this many times the released one, or this much less, is doubted. Texts differ: on web text the released SAEs of 2B lie between 0.9 and 2.3 times their labels (SAEBench's table).</summary>
    public const double Factor = 2.5;

    /// <summary>Fewer tokens than this say nothing.</summary>
    public const int LeastTokens = 8;

    private const int LeastTokensForRatio = 64;

    // What a right place may show on a text of its own kind, and a wrong one may not exceed: between this and a doubt only the neighbours can tell.
    private const double FactorWorthALook = 1.6;
    private const double RatioWorthALook = 0.5;

    /// <summary>The L0 that a path names, <c>average_l0_71</c>, or that the catalogue has for a name without it (canonical, Neuronpedia's); null if there is none.</summary>
    public static double? ReleasedL0(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        MatchCollection matches = Label().Matches(path);
        if (matches.Count == 0)
            return ReleaseCatalog.TryParse(path, out ReleasedSae? sae) ? sae.L0 : null;
        return double.Parse(matches[^1].Groups[1].ValueSpan, CultureInfo.InvariantCulture);
    }

    /// <summary>Whether a measurement is far from what was released. Few tokens may all be of one kind, so that L0 may depart further (8 tokens twice as far), and their mean is hard to do better than.</summary>
    public static bool IsDoubtful(double? releasedL0, SiteFit fit)
    {
        if (fit.Tokens < LeastTokens)
            return false;
        bool reconstructs = fit.ErrorRatio < 1 || (fit.Tokens < LeastTokensForRatio && !Departs(releasedL0, fit, FactorWorthALook));
        return !reconstructs || fit.L0 == 0 || Departs(releasedL0, fit, Factor * (1 + (8.0 / fit.Tokens)));
    }

    /// <summary>Whether a measurement is so far from what was released that it is worth a look whether another site fits better.</summary>
    public static bool IsWorthALook(double? releasedL0, SiteFit fit) => fit.Tokens >= LeastTokens
        && (IsDoubtful(releasedL0, fit) || fit.ErrorRatio > RatioWorthALook || Departs(releasedL0, fit, FactorWorthALook));

    private static bool Departs(double? releasedL0, SiteFit fit, double factor) =>
        releasedL0 is double released && (fit.L0 > released * factor || fit.L0 < released / factor);

    /// <summary>One sentence that says what is off and what usually causes it; null where nothing is and no other place fits clearly better.</summary>
    /// <param name="name">The SAE.</param>
    /// <param name="releasedL0">What its path says.</param>
    /// <param name="used">How it does where it is used.</param>
    /// <param name="tried">How it does elsewhere, from <see cref="SiteSearch"/>; may be empty.</param>
    public static string? Sentence(string name, double? releasedL0, SiteFit used, IReadOnlyList<SiteFit> tried)
    {
        ArgumentNullException.ThrowIfNull(tried);
        if (!IsDoubtful(releasedL0, used) && Best(releasedL0, used, tried) is null)
            return null;
        string expected = releasedL0 is double released ? $" where its path says {Number(released)}" : "";
        string reconstruction = used.ErrorRatio < 1 ? ""
            : $" and reconstructs worse than the mean activation does (median error ratio {Number(used.ErrorRatio)})";
        return $"{name}: at {used.Site} it has L0 {Number(used.L0)}{expected}{reconstruction}; {Cause(releasedL0, used, tried)}.";
    }

    /// <summary>The best of several fits: it reconstructs, with an L0 close to the released one. Null if none does better than the one in use by a clear margin.</summary>
    public static SiteFit? Best(double? releasedL0, SiteFit used, IReadOnlyList<SiteFit> tried)
    {
        ArgumentNullException.ThrowIfNull(tried);
        SiteFit best = tried.Where(fit => fit.Site != used.Site || fit.BeginsWithBos != used.BeginsWithBos).Append(used)
            .MinBy(fit => Distance(releasedL0, fit));
        // Half a unit: an L0 nearer by a factor of 1.6, or an error ratio smaller by as much.
        return best != used && Distance(releasedL0, best) < Distance(releasedL0, used) - 0.5 && best.ErrorRatio < 1 ? best : null;
    }

    /// <summary>|ln(L0/released)| + ln(error ratio): what is least is best.</summary>
    private static double Distance(double? released, SiteFit fit) =>
        fit.L0 == 0 || double.IsNaN(fit.ErrorRatio) ? double.PositiveInfinity
            : (released is double l0 ? Math.Abs(Math.Log(fit.L0 / l0)) : 0) + Math.Log(Math.Max(fit.ErrorRatio, 1e-6));

    private static string Cause(double? releasedL0, SiteFit used, IReadOnlyList<SiteFit> tried)
    {
        if (Best(releasedL0, used, tried) is SiteFit best)
        {
            string where = best.Site == used.Site ? "" : $" at {best.Site}";
            string bos = best.BeginsWithBos == used.BeginsWithBos ? "" : best.BeginsWithBos ? " when the text begins with BOS"
                : " when the text has no BOS";
            return $"it fits better{where}{bos} (L0 {Number(best.L0)}, median error ratio {Number(best.ErrorRatio)})";
        }

        if (!used.BeginsWithBos)
            return "the texts do not begin with BOS, as those that it was trained on did";
        return used.Site.Site switch
        {
            Site.MlpOut => $"this is usually the raw mlp_out instead of mlp_out_post.{used.Site.Layer}",
            Site.AttnOut => $"this is usually the raw attn_out instead of attn_out_post.{used.Site.Layer}",
            Site.MlpIn => $"this is usually mlp_in with its gain instead of mlp_in_unit.{used.Site.Layer}",
            _ => "this is usually a wrong layer, another model (its instruction-tuned sibling, or another size of the same width), or "
                + "text unlike what it was trained on",
        };
    }

    private static string Number(double value) => value.ToString(value is < 10 and not 0 ? "0.##" : "0", CultureInfo.InvariantCulture);

    // average_l0_71 in Gemma Scope's folders; l0_71 in names such as the demo's.
    [GeneratedRegex(@"(?<![a-z0-9])l0_([0-9]{1,6})(?![0-9])")]
    private static partial Regex Label();
}
