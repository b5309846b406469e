using System.Text.Json;

namespace KernelScope.Evaluation;

/// <summary>What every number of an evaluation means, as part of its output: a number without its definition cannot be compared with anybody else's.</summary>
internal static class Definitions
{
    private static readonly (string Name, string Text)[] Plain =
    [
        ("special", "tokens that are padding, BOS or EOS (special_ids); the padding that makes sequences equally long never counts, "
            + "except in 'saelens'"),
        ("act_mask", "positions whose own token is not special; all activation statistics are over these"),
        ("L0", "mean number of active features"),
        ("L0_median", "median of the same; the middle two are averaged"),
        ("L0_all_but_pad", "the mean over every position but padding, BOS and EOS included"),
        ("mse", "mean of ||x - xhat||^2, summed over dimensions"),
        ("mse_per_element", "mse / number of dimensions"),
        ("fvu", "sum of ||x - xhat||^2 / sum of ||x - xbar||^2 over the set; xbar is the mean of x over act_mask, found in a pass of "
            + "its own"),
        ("explained_variance", "1 - fvu"),
        ("fvu_median", "median over positions of ||x - xhat||^2 / ||x - xbar||^2"),
        ("fvu_all_but_pad", "fvu over every position but padding, in xbar too"),
        ("cosine", "mean cosine of x and xhat"),
        ("firing_frequency", "array: by feature, the share of act_mask positions at which it is active"),
        ("alive", "share of features that are active at least once"),
        ("ce", "mean cross-entropy of the next token in nats, over a mask"),
        ("delta", "ce of the spliced pass - ce of the clean pass, same mask"),
        ("kl", "mean over act_mask of the divergence KL(clean || spliced) in nats, last positions included"),
        ("kl_ce_default", "the same over the 'default' loss mask"),
        ("loss_recovered", "(ce_zero - ce_sae) / (ce_zero - ce_clean), zero ablation at the positions of the splice"),
        ("loss_recovered_mean", "the same with mean ablation"),
        ("sae_plus_error_max_logit_difference",
            "largest difference of any logit between the clean pass and the one with xhat + (x - xhat): rounding alone"),
        ("r_L0", "uniformity of active latent importance: y = f(x_t) * (W_dec grad_t), grad_t = d L_t / d x_t in the clean pass, L_t = "
            + "logit[t, token t+1] - mean over the vocabulary of logit[t] (soft-capped), the same position's only; p = |y| / sum |y|; "
            + "r = exp(-sum p ln p) / number of y != 0; the mean over the 'default' loss mask where a y is not 0. x is a transcoder's "
            + "output site; left out where the site has no gradient, or if gradients are not asked for"),
        ("r_L0_summed",
            "the same with grad_t = d (sum of L_s over the 'default' loss mask) / d x_t: a position's effect on later predictions counts"),
        ("r_L0_skipped|r_L0_summed_skipped", "positions of the 'default' loss mask whose y are all 0: they are in no mean"),
        ("grad_own", "array: grad_t of r_L0 at every position with a next token, padding included; 0 at the last"),
        ("by_position", "arrays over positions: fvu (with the set's xbar), l0, and of sae/keep_bos delta and kl; NaN where nothing counts"),
        ("saelens", "what SAELens' evaluation reports, by its own definitions: ignore_special masks by the input token alone and "
            + "leaves special positions unspliced, ignore_nothing counts padding; its zero ablation replaces every position"),
        ("confidence",
            "percentile intervals of a bootstrap over whole sequences, for every mean and ratio of means; fvu keeps the set's xbar"),
        ("firing_frequency_histogram", "number of features by log10 of firing_frequency; 'never' counts those that never fire"),
    ];

    private static readonly (string Name, string Text)[] Splices =
    [
        ("sae|zero|mean|sae_plus_error", "what replaces the activation: xhat; 0; xbar; xhat + (x - xhat)"),
        ("keep_bos", "every position except those whose token is BOS (the default)"),
        ("all", "every position"),
        ("keep_special", "every position whose token is not special"),
    ];

    private static readonly (string Name, string Text)[] Masks =
    [
        ("default", "positions whose own token is not special and whose target is not padding"),
        ("saelens", "own token not special; a padding target counts"),
        ("strict", "neither own token nor target special"),
        ("all_but_pad", "neither own token nor target padding: predictions made at BOS and EOS count"),
    ];

    /// <summary>Every definition, in order, for people.</summary>
    public static IEnumerable<(string Name, string Text)> All =>
        [.. Plain, .. Splices.Select(s => ($"splice {s.Name}", s.Text)), .. Masks.Select(m => ($"loss mask {m.Name}", m.Text))];

    /// <summary>Writes the object "definitions".</summary>
    public static void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("definitions");
        WriteAll(json, Plain);
        json.WriteStartObject("splices");
        WriteAll(json, Splices);
        json.WriteEndObject();
        json.WriteStartObject("ce_masks");
        WriteAll(json, Masks);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteAll(Utf8JsonWriter json, (string Name, string Text)[] texts)
    {
        foreach ((string name, string text) in texts)
            json.WriteString(name, text);
    }
}
