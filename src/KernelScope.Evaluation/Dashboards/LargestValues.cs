namespace KernelScope.Evaluation;

/// <summary>Finds the few largest of many values.</summary>
internal static class LargestValues
{
    /// <summary>Indices of the largest values, largest first; among equals the lower index first. What is not a number is never among them.</summary>
    /// <param name="values">Any number.</param>
    /// <param name="count">How many; fewer if there are fewer.</param>
    /// <param name="without">An index that is left out; −1: none.</param>
    /// <param name="sign">1, or −1 for the smallest, smallest first.</param>
    public static int[] Of(ReadOnlySpan<float> values, int count, int without = -1, int sign = 1)
    {
        int[] best = new int[count];
        int found = 0;
        for (int i = 0; i < values.Length; i++)
        {
            float value = sign * values[i];
            if (i == without || float.IsNaN(value) || (found == count && (count == 0 || !(value > sign * values[best[^1]]))))
                continue;
            int at = found < count ? found++ : count - 1;
            for (; at > 0 && value > sign * values[best[at - 1]]; at--)
                best[at] = best[at - 1];
            best[at] = i;
        }

        return best[..found];
    }
}
